/* SPDX-License-Identifier: Apache-2.0 */
/* What does not change from machine to machine. The windows of the host bridge, which do, come as
 * named objects from an SSDT that acpi.c writes. Numbers are those of layout.h and pci.h. */
DefinitionBlock ("", "DSDT", 2, "DUET", "DUETPC", 1)
{
	External (\W32B, IntObj) // 32-bit memory window: base, size
	External (\W32S, IntObj)
	External (\W64B, IntObj) // 64-bit memory window: base, size
	External (\W64S, IntObj)
	External (\ECAM, IntObj) // base of the configuration space, 1 MiB

	// Power-off: the sleep type that the power management device takes for S5.
	Name (\_S5, Package () { 5, 5, 0, 0 })

	Scope (\_SB)
	{
		Device (PCI0)
		{
			Name (_HID, EisaId ("PNP0A08"))
			Name (_CID, EisaId ("PNP0A03"))
			Name (_UID, 0)
			Name (_SEG, 0)
			Name (_BBN, 0)

			Name (RES, ResourceTemplate ()
			{
				WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode,
					0, 0, 0, 0, 1)
				IO (Decode16, 0xCF8, 0xCF8, 1, 8)
				// The legacy ports, for an IDE controller at its fixed places.
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0x0000, 0x0CF7, 0, 0x0CF8)
				WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange,
					0, 0xC000, 0xEFFF, 0, 0x3000)
				QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					NonCacheable, ReadWrite, 0, 0, 0, 0, 0, , , M32)
				QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed,
					Cacheable, ReadWrite, 0, 0, 0, 0, 0, , , M64)
			})

			Method (_CRS, 0, Serialized)
			{
				CreateQWordField (RES, ^M32._MIN, LMIN)
				CreateQWordField (RES, ^M32._MAX, LMAX)
				CreateQWordField (RES, ^M32._LEN, LLEN)
				CreateQWordField (RES, ^M64._MIN, HMIN)
				CreateQWordField (RES, ^M64._MAX, HMAX)
				CreateQWordField (RES, ^M64._LEN, HLEN)
				LMIN = \W32B
				LLEN = \W32S
				LMAX = \W32B + \W32S - 1
				HMIN = \W64B
				HLEN = \W64S
				HMAX = \W64B + \W64S - 1
				Return (RES)
			}

			// Pin A of slot n is GSI 16 + n % 8.
			Name (_PRT, Package ()
			{
				Package () { 0x0000FFFF, 0, 0, 16 },
				Package () { 0x0001FFFF, 0, 0, 17 },
				Package () { 0x0002FFFF, 0, 0, 18 },
				Package () { 0x0003FFFF, 0, 0, 19 },
				Package () { 0x0004FFFF, 0, 0, 20 },
				Package () { 0x0005FFFF, 0, 0, 21 },
				Package () { 0x0006FFFF, 0, 0, 22 },
				Package () { 0x0007FFFF, 0, 0, 23 },
				Package () { 0x0008FFFF, 0, 0, 16 },
				Package () { 0x0009FFFF, 0, 0, 17 },
				Package () { 0x000AFFFF, 0, 0, 18 },
				Package () { 0x000BFFFF, 0, 0, 19 },
				Package () { 0x000CFFFF, 0, 0, 20 },
				Package () { 0x000DFFFF, 0, 0, 21 },
				Package () { 0x000EFFFF, 0, 0, 22 },
				Package () { 0x000FFFFF, 0, 0, 23 },
				Package () { 0x0010FFFF, 0, 0, 16 },
				Package () { 0x0011FFFF, 0, 0, 17 },
				Package () { 0x0012FFFF, 0, 0, 18 },
				Package () { 0x0013FFFF, 0, 0, 19 },
				Package () { 0x0014FFFF, 0, 0, 20 },
				Package () { 0x0015FFFF, 0, 0, 21 },
				Package () { 0x0016FFFF, 0, 0, 22 },
				Package () { 0x0017FFFF, 0, 0, 23 },
				Package () { 0x0018FFFF, 0, 0, 16 },
				Package () { 0x0019FFFF, 0, 0, 17 },
				Package () { 0x001AFFFF, 0, 0, 18 },
				Package () { 0x001BFFFF, 0, 0, 19 },
				Package () { 0x001CFFFF, 0, 0, 20 },
				Package () { 0x001DFFFF, 0, 0, 21 },
				Package () { 0x001EFFFF, 0, 0, 22 },
				Package () { 0x001FFFFF, 0, 0, 23 }
			})
		}

		// The configuration space belongs to no device: Linux uses it only when it is
		// reserved here.
		Device (MBRD)
		{
			Name (_HID, EisaId ("PNP0C02"))
			Name (_UID, 0)
			Name (RES, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, 0, 0x100000, CFG)
				IO (Decode16, 0x600, 0x600, 1, 0x10)
			})
			Method (_CRS, 0, Serialized)
			{
				CreateDWordField (RES, ^CFG._BAS, BASE)
				BASE = \ECAM
				Return (RES)
			}
		}

		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 0)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x3F8, 0x3F8, 1, 8)
				IRQNoFlags () { 4 }
			})
		}

		Device (RTC)
		{
			Name (_HID, EisaId ("PNP0B00"))
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, 0x70, 0x70, 1, 2)
				IRQNoFlags () { 8 }
			})
		}
	}
}
