/* SPDX-License-Identifier: Apache-2.0 */
/* Saved state: registers, EEPROM, PHY, and the packet whose descriptors are still to come. A frame
 * that waited for the back end, or for descriptors, is lost, as frames on a wire may be. */
#include "emulated/e1000/private.h"

#include <errno.h>

static void save_context(const struct e1000_context *context, struct state_writer *writer)
{
	state_put_u8(writer, context->ipcss);
	state_put_u8(writer, context->ipcso);
	state_put_u16(writer, context->ipcse);
	state_put_u8(writer, context->tucss);
	state_put_u8(writer, context->tucso);
	state_put_u16(writer, context->tucse);
	state_put_u8(writer, context->hdr_len);
	state_put_u16(writer, context->mss);
	state_put_u32(writer, context->paylen);
	state_put_bool(writer, context->tcp);
	state_put_bool(writer, context->ip);
}

static void restore_context(struct e1000_context *context, struct state_reader *reader)
{
	context->ipcss = state_get_u8(reader);
	context->ipcso = state_get_u8(reader);
	context->ipcse = state_get_u16(reader);
	context->tucss = state_get_u8(reader);
	context->tucso = state_get_u8(reader);
	context->tucse = state_get_u16(reader);
	context->hdr_len = state_get_u8(reader);
	context->mss = state_get_u16(reader);
	context->paylen = state_get_u32(reader);
	context->tcp = state_get_bool(reader);
	context->ip = state_get_bool(reader);
}

static void save_packet(const struct e1000 *e, struct state_writer *writer)
{
	const struct e1000_packet *packet = &e->transmit.packet;
	bool begun = packet->begun && !packet->ready && e->transmit.generation == e->generation;

	state_put_bool(writer, begun);
	if (!begun)
		return;
	save_context(&packet->context, writer);
	state_put_u8(writer, packet->popts);
	state_put_u8(writer, packet->css);
	state_put_u8(writer, packet->cso);
	state_put_u16(writer, packet->tag);
	state_put_u16(writer, packet->vet);
	state_put_bool(writer, packet->dropped);
	state_put_bool(writer, packet->segmented);
	state_put_bool(writer, packet->insert);
	state_put_bool(writer, packet->tagged);
	state_put_u32(writer, packet->length);
	state_put_bytes(writer, e->transmit.frame, packet->length);
}

static int restore_packet(struct e1000 *e, struct state_reader *reader)
{
	struct e1000_packet *packet = &e->transmit.packet;

	*packet = (struct e1000_packet){.begun = state_get_bool(reader)};
	e->transmit.generation = e->generation;
	if (!packet->begun)
		return 0;
	restore_context(&packet->context, reader);
	packet->popts = state_get_u8(reader);
	packet->css = state_get_u8(reader);
	packet->cso = state_get_u8(reader);
	packet->tag = state_get_u16(reader);
	packet->vet = state_get_u16(reader);
	packet->dropped = state_get_bool(reader);
	packet->segmented = state_get_bool(reader);
	packet->insert = state_get_bool(reader);
	packet->tagged = state_get_bool(reader);
	packet->length = state_get_u32(reader);
	if (packet->length > E1000_REQUEST_MAX) {
		*packet = (struct e1000_packet){0};
		return -EINVAL;
	}
	state_get_bytes(reader, e->transmit.frame, packet->length);
	return 0;
}

static void save_eeprom(const struct e1000_eeprom *eeprom, struct state_writer *writer)
{
	for (unsigned i = 0; i < E1000_EEPROM_WORDS; i++)
		state_put_u16(writer, eeprom->words[i]);
	state_put_u32(writer, eeprom->pins);
	state_put_u8(writer, eeprom->phase);
	state_put_u8(writer, eeprom->bits);
	state_put_u8(writer, eeprom->address);
	state_put_u16(writer, eeprom->shift);
	state_put_bool(writer, eeprom->out);
	state_put_bool(writer, eeprom->writable);
}

static int restore_eeprom(struct e1000_eeprom *eeprom, struct state_reader *reader)
{
	for (unsigned i = 0; i < E1000_EEPROM_WORDS; i++)
		eeprom->words[i] = state_get_u16(reader);
	eeprom->pins = state_get_u32(reader);
	eeprom->phase = state_get_u8(reader);
	eeprom->bits = state_get_u8(reader);
	eeprom->address = state_get_u8(reader) % E1000_EEPROM_WORDS;
	eeprom->shift = state_get_u16(reader);
	eeprom->out = state_get_bool(reader);
	eeprom->writable = state_get_bool(reader);
	return e1000_eeprom_valid(eeprom) ? 0 : -EINVAL;
}

/* Descriptors that are done, and whose cause is still to come: delayed, or after a frame that waits
 * for the back end. */
static bool owes_report(const struct e1000 *e)
{
	const struct e1000_transmit *transmit = &e->transmit;

	return e->deadlines[E1000_DEADLINE_TRANSMIT] != E1000_NEVER ||
	       (transmit->generation == e->generation &&
		       (transmit->report || transmit->report_late));
}

void e1000_save(struct device *device, struct state_writer *writer)
{
	struct e1000 *e = container_of(device, struct e1000, function.device);

	pci_save(&e->function, writer);
	pthread_mutex_lock(&e->lock);
	e1000_registers_save(e, writer);
	state_put_u32(writer, e->io_address);
	save_eeprom(&e->eeprom, writer);
	for (unsigned i = 0; i < E1000_PHY_REGISTERS; i++)
		state_put_u16(writer, e->phy[i]);
	state_put_bool(writer, e->phy_lost);
	/* Deadlines are of this host's clock: what they put off comes at once over there. */
	state_put_bool(writer, e->deadlines[E1000_DEADLINE_RECEIVE] != E1000_NEVER);
	state_put_bool(writer, owes_report(e));
	save_context(&e->transmit.plain, writer);
	save_context(&e->transmit.segmentation, writer);
	save_packet(e, writer);
	pthread_mutex_unlock(&e->lock);
}

static int restore_locked(struct e1000 *e, struct state_reader *reader)
{
	uint32_t delayed = 0;
	int ret;

	e1000_reset(e);
	e1000_registers_restore(e, reader);
	e->io_address = state_get_u32(reader);
	ret = restore_eeprom(&e->eeprom, reader);
	for (unsigned i = 0; i < E1000_PHY_REGISTERS; i++)
		e->phy[i] = state_get_u16(reader);
	e->phy_lost = state_get_bool(reader);
	delayed |= state_get_bool(reader) ? ICR_RXT0 : 0;
	delayed |= state_get_bool(reader) ? ICR_TXDW : 0;
	restore_context(&e->transmit.plain, reader);
	restore_context(&e->transmit.segmentation, reader);
	if (restore_packet(e, reader) < 0)
		ret = -EINVAL;
	e->asserted = false;
	e1000_cause(e, delayed);
	return ret;
}

int e1000_restore(struct device *device, struct state_reader *reader, struct error *err)
{
	struct e1000 *e = container_of(device, struct e1000, function.device);
	int ret = pci_restore(&e->function, reader, err);

	if (ret < 0)
		return ret;
	pthread_mutex_lock(&e->lock);
	e1000_follow_config(e);
	ret = restore_locked(e, reader);
	pthread_mutex_unlock(&e->lock);
	if (ret < 0)
		return error_set(err, EINVAL, "%s: saved state is damaged", device->name);
	return 0;
}
