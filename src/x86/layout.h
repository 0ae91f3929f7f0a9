/* SPDX-License-Identifier: Apache-2.0 */
/* The guest-physical address space of a duet PC. docs/architecture.md shows it as a picture. */
#ifndef DUET_X86_LAYOUT_H
#define DUET_X86_LAYOUT_H

#define LAYOUT_LOW_RAM_MAX  0xc0000000ULL /* RAM below 4 GiB ends here at the latest */
#define LAYOUT_MMIO32       0xc0000000ULL /* 32-bit BARs */
#define LAYOUT_MMIO32_SIZE  0x20000000ULL
#define LAYOUT_ECAM         0xe0000000ULL /* one bus */
#define LAYOUT_ECAM_SIZE    0x00100000ULL
#define LAYOUT_IOAPIC       0xfec00000ULL
#define LAYOUT_LAPIC        0xfee00000ULL
#define LAYOUT_KVM_RESERVED 0xfeffc000ULL /* identity map page and TSS for KVM on Intel */
#define LAYOUT_HIGH_RAM     0x100000000ULL
#define LAYOUT_MMIO64_SIZE  0x1000000000ULL /* 64-bit BARs, from the end of RAM, 4 GiB aligned */

/* Below 1 MiB. */
#define LAYOUT_BOOT_GDT        0x500ULL
#define LAYOUT_PVH_INFO        0x6000ULL
#define LAYOUT_ZERO_PAGE       0x7000ULL
#define LAYOUT_SETUP_DATA      0x8000ULL /* entropy for the guest */
#define LAYOUT_PAGE_TABLES     0x9000ULL /* up to 0x10000 */
#define LAYOUT_CMDLINE         0x20000ULL
#define LAYOUT_CMDLINE_MAX     0x10000ULL
#define LAYOUT_EBDA            0x9fc00ULL
#define LAYOUT_ACPI            0xe0000ULL /* RSDP and tables, up to 1 MiB */
#define LAYOUT_ACPI_END        0x100000ULL
#define LAYOUT_GENERATION      0xef000ULL /* VM generation ID, a page of its own */
#define LAYOUT_MPTABLE         0xff000ULL /* from 0xf0000 on guests look for it */
#define LAYOUT_MPTABLE_END     0xff800ULL
#define LAYOUT_SMBIOS          0xff800ULL
#define LAYOUT_SMBIOS_END      0xfff00ULL
#define LAYOUT_RESET_VECTOR    0xffff0ULL
#define LAYOUT_GENERATION_SIZE 16           /* bytes */
#define LAYOUT_KERNEL          0x1000000ULL /* default load address, 16 MiB */

/* Interrupts (GSI) and ports of the board's own devices. */
#define LAYOUT_SERIAL_PORT    0x3f8
#define LAYOUT_SERIAL_GSI     4
#define LAYOUT_RTC_PORT       0x70
#define LAYOUT_RTC_GSI        8
#define LAYOUT_PIT            0x40
#define LAYOUT_KEYBOARD_DATA  0x60
#define LAYOUT_KEYBOARD_CMD   0x64
#define LAYOUT_KEYBOARD_GSI   1
#define LAYOUT_ACPI_SCI       9
#define LAYOUT_GENERATION_GSI 5     /* an edge: the VM generation ID is another one */
#define LAYOUT_PM_PORT        0x600 /* PM1a event (4), PM1a control (2) at +4, PM timer (4) at +8 */
#define LAYOUT_PM_EVENT       0x600
#define LAYOUT_PM_CONTROL     0x604
#define LAYOUT_PM_TIMER       0x608
#define LAYOUT_EJECT          0x610 /* 4 bytes: eject.asl */
#define LAYOUT_EJECT_GSI      10    /* an edge: slots are to be emptied */
#define LAYOUT_GPE0           0x620 /* 4 bytes */
#define LAYOUT_RESET_PORT     0xcf9
#define LAYOUT_SLEEP_TYPE_S5  5      /* SLP_TYP of \_S5 in the DSDT */
#define LAYOUT_PCI_PORTS      0xc000 /* port BARs: 31 slots of 256, another 256 for fast calls */
#define LAYOUT_PCI_PORTS_SIZE 0x3000
#define LAYOUT_IRQ_PINS       24

#endif
