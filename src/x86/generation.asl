/* SPDX-License-Identifier: Apache-2.0 */
/* The VM generation ID (Microsoft's "Virtual Machine Generation ID"): sixteen bytes that are others
 * in each machine that goes on from the same saved state, and an event device (ACPI 6.5, 5.6.9) that
 * tells the guest so. Numbers are those of layout.h. */
DefinitionBlock ("", "SSDT", 2, "DUET", "DUETGEN", 1)
{
	Scope (\_SB)
	{
		Device (VGEN)
		{
			Name (_HID, "DUET0001")
			Name (_CID, Package () { "VMGENCTR", "VM_GEN_COUNTER" })
			Name (_DDN, "VM_Gen_Counter")
			Name (ADDR, Package () { 0x000EF000, 0 })
		}

		Device (GED)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 5 }
			})
			Method (_EVT, 1, Serialized)
			{
				Notify (\_SB.VGEN, 0x80)
			}
		}
	}
}
