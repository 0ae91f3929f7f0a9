/* SPDX-License-Identifier: Apache-2.0 */
/* The name of a PCI function on this host: domain:bus:device.function, as lspci -D prints it. */
#ifndef DUET_BASE_PCI_ADDRESS_H
#define DUET_BASE_PCI_ADDRESS_H

#define PCI_ADDRESS_SIZE 16 /* "0000:01:10.0" and its end, with room for a domain of 32 bits */

/* Writes @text as /sys/bus/pci/devices spells it ("01:10.0" is in domain 0). -EINVAL when it is no
 * such name. Any thread. */
int pci_address_parse(const char *text, char canonical[PCI_ADDRESS_SIZE]);

#endif
