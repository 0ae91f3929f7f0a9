/* SPDX-License-Identifier: Apache-2.0 */
/* The board's own small devices. Each function makes a struct device, not yet realized. */
#ifndef DUET_EMULATED_BOARD_H
#define DUET_EMULATED_BOARD_H

#include "bus/device.h"

/* 16550A at LAYOUT_SERIAL_PORT. Output goes to @output (write errors are counted; a reader that is
 * slow holds the guest up for a moment, one that has stopped loses output; no thread ever waits).
 */
int serial_new(struct device **device, int output, struct error *err);
/* Main thread: bytes typed for the guest; returns how many the FIFO took: none before the guest's
 * driver has the port open. When it took fewer, @call(@opaque) is called on @loop, the main
 * thread's, once there is room. */
size_t serial_input(struct device *device, const void *bytes, size_t length);
void serial_set_room(
	struct device *device, struct loop *loop, void (*call)(void *opaque), void *opaque);
/* Bytes that wait in the device for the output: written out, with a little patience, or with @hurry
 * with hardly any; main thread, at the end. */
void serial_flush(struct device *device, bool hurry);

/* What a guest asks of its machine. Called on the vCPU thread. */
struct power_events {
	void (*power_off)(void *opaque);
	void (*reset)(void *opaque);
};

/* ACPI fixed hardware: PM1 event/control, PM timer, GPE0, the reset register at 0xcf9. S5 powers
 * off. */
int acpi_pm_new(
	struct device **device, const struct power_events *events, void *opaque, struct error *err);
/* Any thread: the power button event (SCI). False when the guest has not enabled it. */
bool acpi_pm_power_button(struct device *device);

/* Keyboard controller: with @keys an 8042 with a PS/2 keyboard on LAYOUT_KEYBOARD_GSI, else as much
 * as a reset by command 0xfe needs (and what Linux's i8042 probe takes to see quickly that nothing
 * is there). */
int keyboard_new(struct device **device, bool keys, const struct power_events *events, void *opaque,
	struct error *err);
/* Main thread, one with @keys, not at rest: presses Ctrl-Alt-Del. False: the guest does not listen.
 */
bool keyboard_ctrl_alt_del(struct device *device);

/* MC146818: time of day, alarm, update and periodic interrupts on LAYOUT_RTC_GSI, CMOS bytes. Its
 * timer is the main loop's. */
int rtc_new(struct device **device, struct error *err);

/* Pulls functions off the PCI bus, by x86/eject.asl. @ejected: the guest has let go of those slots
 * (bits), which it was asked for; called on a vCPU's thread. Where it is, something is passed
 * through, so it is never saved. */
int eject_new(struct device **device, void (*ejected)(void *opaque, uint32_t slots), void *opaque,
	struct error *err);
/* Main thread: asks for @slot. A guest that resets has forgotten it. */
void eject_ask(struct device *device, unsigned slot);

/* IOAPIC for the split irqchip: 24 pins, MSIs to the LAPICs through host->msi_add/irq routes. */
struct ioapic_host {
	int (*send_msi)(void *opaque, uint64_t address, uint32_t data);
	/* Level-triggered pins whose EOI must come back to the IOAPIC: KVM learns them from MSI
	 * routes on GSIs 0 to 23. */
	int (*set_route)(void *opaque, unsigned pin, uint64_t address, uint32_t data, bool masked);
	/* Before a level-triggered pin's interrupt ends, so that its line can be lowered: called
	 * without a lock, on the vCPU's thread. May be null. */
	void (*pin_ended)(void *opaque, unsigned pin);
	void *opaque;
};
int ioapic_new(struct device **device, const struct ioapic_host *host, struct error *err);
void ioapic_set_line(struct device *device, unsigned pin, bool level); /* any thread */
void ioapic_eoi(struct device *device, unsigned vector);               /* vCPU thread */

#endif
