/* SPDX-License-Identifier: Apache-2.0 */
/* The guest is asked to let go of functions of the PCI bus (ACPI 6.5, 6.3.3 and 6.3.4): an event
 * device that reads of which slots, and each slot's word that it may be pulled. A table of its own,
 * which is there when something can be pulled: a guest without looks at no slots. Numbers are those of
 * layout.h. */
DefinitionBlock ("", "SSDT", 2, "DUET", "DUETEJ", 1)
{
	External (\_SB.PCI0, DeviceObj)

	Scope (\_SB)
	{
		Device (EJEC)
		{
			Name (_HID, "ACPI0013")
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 10 }
			})
			OperationRegion (PORT, SystemIO, 0x610, 4)
			Field (PORT, DWordAcc, NoLock, WriteAsZeros)
			{
				SLOT, 32 // read: those that are to go, once; written: those that may
			}
			Method (_EVT, 1, Serialized)
			{
				Local0 = SLOT
				If (Local0 & 0x00000002) { Notify (\_SB.PCI0.S01, 3) }
				If (Local0 & 0x00000004) { Notify (\_SB.PCI0.S02, 3) }
				If (Local0 & 0x00000008) { Notify (\_SB.PCI0.S03, 3) }
				If (Local0 & 0x00000010) { Notify (\_SB.PCI0.S04, 3) }
				If (Local0 & 0x00000020) { Notify (\_SB.PCI0.S05, 3) }
				If (Local0 & 0x00000040) { Notify (\_SB.PCI0.S06, 3) }
				If (Local0 & 0x00000080) { Notify (\_SB.PCI0.S07, 3) }
				If (Local0 & 0x00000100) { Notify (\_SB.PCI0.S08, 3) }
				If (Local0 & 0x00000200) { Notify (\_SB.PCI0.S09, 3) }
				If (Local0 & 0x00000400) { Notify (\_SB.PCI0.S0A, 3) }
				If (Local0 & 0x00000800) { Notify (\_SB.PCI0.S0B, 3) }
				If (Local0 & 0x00001000) { Notify (\_SB.PCI0.S0C, 3) }
				If (Local0 & 0x00002000) { Notify (\_SB.PCI0.S0D, 3) }
				If (Local0 & 0x00004000) { Notify (\_SB.PCI0.S0E, 3) }
				If (Local0 & 0x00008000) { Notify (\_SB.PCI0.S0F, 3) }
				If (Local0 & 0x00010000) { Notify (\_SB.PCI0.S10, 3) }
				If (Local0 & 0x00020000) { Notify (\_SB.PCI0.S11, 3) }
				If (Local0 & 0x00040000) { Notify (\_SB.PCI0.S12, 3) }
				If (Local0 & 0x00080000) { Notify (\_SB.PCI0.S13, 3) }
				If (Local0 & 0x00100000) { Notify (\_SB.PCI0.S14, 3) }
				If (Local0 & 0x00200000) { Notify (\_SB.PCI0.S15, 3) }
				If (Local0 & 0x00400000) { Notify (\_SB.PCI0.S16, 3) }
				If (Local0 & 0x00800000) { Notify (\_SB.PCI0.S17, 3) }
				If (Local0 & 0x01000000) { Notify (\_SB.PCI0.S18, 3) }
				If (Local0 & 0x02000000) { Notify (\_SB.PCI0.S19, 3) }
				If (Local0 & 0x04000000) { Notify (\_SB.PCI0.S1A, 3) }
				If (Local0 & 0x08000000) { Notify (\_SB.PCI0.S1B, 3) }
				If (Local0 & 0x10000000) { Notify (\_SB.PCI0.S1C, 3) }
				If (Local0 & 0x20000000) { Notify (\_SB.PCI0.S1D, 3) }
				If (Local0 & 0x40000000) { Notify (\_SB.PCI0.S1E, 3) }
				If (Local0 & 0x80000000) { Notify (\_SB.PCI0.S1F, 3) }
			}
		}
	}

	Scope (\_SB.PCI0)
	{
		Device (S01)
		{
			Name (_ADR, 0x00010000)
			Name (_SUN, 1)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000002 }
		}
		Device (S02)
		{
			Name (_ADR, 0x00020000)
			Name (_SUN, 2)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000004 }
		}
		Device (S03)
		{
			Name (_ADR, 0x00030000)
			Name (_SUN, 3)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000008 }
		}
		Device (S04)
		{
			Name (_ADR, 0x00040000)
			Name (_SUN, 4)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000010 }
		}
		Device (S05)
		{
			Name (_ADR, 0x00050000)
			Name (_SUN, 5)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000020 }
		}
		Device (S06)
		{
			Name (_ADR, 0x00060000)
			Name (_SUN, 6)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000040 }
		}
		Device (S07)
		{
			Name (_ADR, 0x00070000)
			Name (_SUN, 7)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000080 }
		}
		Device (S08)
		{
			Name (_ADR, 0x00080000)
			Name (_SUN, 8)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000100 }
		}
		Device (S09)
		{
			Name (_ADR, 0x00090000)
			Name (_SUN, 9)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000200 }
		}
		Device (S0A)
		{
			Name (_ADR, 0x000A0000)
			Name (_SUN, 10)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000400 }
		}
		Device (S0B)
		{
			Name (_ADR, 0x000B0000)
			Name (_SUN, 11)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00000800 }
		}
		Device (S0C)
		{
			Name (_ADR, 0x000C0000)
			Name (_SUN, 12)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00001000 }
		}
		Device (S0D)
		{
			Name (_ADR, 0x000D0000)
			Name (_SUN, 13)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00002000 }
		}
		Device (S0E)
		{
			Name (_ADR, 0x000E0000)
			Name (_SUN, 14)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00004000 }
		}
		Device (S0F)
		{
			Name (_ADR, 0x000F0000)
			Name (_SUN, 15)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00008000 }
		}
		Device (S10)
		{
			Name (_ADR, 0x00100000)
			Name (_SUN, 16)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00010000 }
		}
		Device (S11)
		{
			Name (_ADR, 0x00110000)
			Name (_SUN, 17)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00020000 }
		}
		Device (S12)
		{
			Name (_ADR, 0x00120000)
			Name (_SUN, 18)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00040000 }
		}
		Device (S13)
		{
			Name (_ADR, 0x00130000)
			Name (_SUN, 19)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00080000 }
		}
		Device (S14)
		{
			Name (_ADR, 0x00140000)
			Name (_SUN, 20)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00100000 }
		}
		Device (S15)
		{
			Name (_ADR, 0x00150000)
			Name (_SUN, 21)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00200000 }
		}
		Device (S16)
		{
			Name (_ADR, 0x00160000)
			Name (_SUN, 22)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00400000 }
		}
		Device (S17)
		{
			Name (_ADR, 0x00170000)
			Name (_SUN, 23)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x00800000 }
		}
		Device (S18)
		{
			Name (_ADR, 0x00180000)
			Name (_SUN, 24)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x01000000 }
		}
		Device (S19)
		{
			Name (_ADR, 0x00190000)
			Name (_SUN, 25)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x02000000 }
		}
		Device (S1A)
		{
			Name (_ADR, 0x001A0000)
			Name (_SUN, 26)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x04000000 }
		}
		Device (S1B)
		{
			Name (_ADR, 0x001B0000)
			Name (_SUN, 27)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x08000000 }
		}
		Device (S1C)
		{
			Name (_ADR, 0x001C0000)
			Name (_SUN, 28)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x10000000 }
		}
		Device (S1D)
		{
			Name (_ADR, 0x001D0000)
			Name (_SUN, 29)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x20000000 }
		}
		Device (S1E)
		{
			Name (_ADR, 0x001E0000)
			Name (_SUN, 30)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x40000000 }
		}
		Device (S1F)
		{
			Name (_ADR, 0x001F0000)
			Name (_SUN, 31)
			Method (_EJ0, 1) { \_SB.EJEC.SLOT = 0x80000000 }
		}
	}
}
