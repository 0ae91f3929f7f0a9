/* SPDX-License-Identifier: Apache-2.0 */
/* Offsets and bits of the type 0 header (PCI Local Bus 3.0, 6.1) and of MSI-X (6.8.2). Not the
 * kernel's <linux/pci_regs.h>, whose names also differ between versions. */
#ifndef DUET_PCI_REGISTERS_H
#define DUET_PCI_REGISTERS_H

#define PCI_REG_VENDOR           0x00
#define PCI_REG_DEVICE           0x02
#define PCI_REG_COMMAND          0x04
#define PCI_REG_STATUS           0x06
#define PCI_REG_REVISION         0x08
#define PCI_REG_CLASS            0x09
#define PCI_REG_CACHE_LINE       0x0c
#define PCI_REG_LATENCY          0x0d
#define PCI_REG_HEADER_TYPE      0x0e
#define PCI_REG_BAR0             0x10
#define PCI_REG_SUBSYSTEM_VENDOR 0x2c
#define PCI_REG_SUBSYSTEM        0x2e
#define PCI_REG_CAPABILITIES     0x34
#define PCI_REG_INTERRUPT_LINE   0x3c
#define PCI_REG_INTERRUPT_PIN    0x3d
#define PCI_HEADER_END           0x40

#define PCI_CMD_IO           0x0001
#define PCI_CMD_MEMORY       0x0002
#define PCI_CMD_MASTER       0x0004
#define PCI_CMD_PARITY       0x0040
#define PCI_CMD_SERR         0x0100
#define PCI_CMD_INTX_DISABLE 0x0400

#define PCI_STS_INTERRUPT    0x0008
#define PCI_STS_CAPABILITIES 0x0010

#define PCI_BAR_FLAG_PORT         0x1
#define PCI_BAR_FLAG_64           0x4
#define PCI_BAR_FLAG_PREFETCHABLE 0x8

#define PCI_CAPABILITY_MSIX 0x11

#define MSIX_CONTROL           2 /* offset in the capability */
#define MSIX_TABLE             4
#define MSIX_PBA               8
#define MSIX_CAPABILITY_LENGTH 12
#define MSIX_CONTROL_ENABLE    0x8000
#define MSIX_CONTROL_MASK_ALL  0x4000
#define MSIX_ENTRY_LENGTH      16
#define MSIX_ENTRY_MASKED      1
#define MSIX_VECTORS_MAX       2048

#endif
