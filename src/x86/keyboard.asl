/* SPDX-License-Identifier: Apache-2.0 */
/* A table of its own, which is there when the keyboard is: a guest without one reads nothing of it.
 * Numbers are those of layout.h. */
DefinitionBlock ("", "SSDT", 2, "DUET", "DUETKBD", 1)
{
	Scope (\_SB)
	{
		Device (KBD)
		{
			Name (_HID, EisaId ("PNP0303"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x60, 0x60, 1, 1)
				IO (Decode16, 0x64, 0x64, 1, 1)
				IRQNoFlags () { 1 }
			})
		}
	}
}
