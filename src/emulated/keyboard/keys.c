/* SPDX-License-Identifier: Apache-2.0 */
/* A PS/2 keyboard as its controller sees it (IBM Personal System/2 Hardware Interface Technical
 * Reference, "Keyboard"). */
#include "base/checked.h"
#include "emulated/keyboard/private.h"

#include <errno.h>
#include <string.h>

#define COMMAND_LEDS       0xed
#define COMMAND_ECHO       0xee
#define COMMAND_SCAN_SET   0xf0
#define COMMAND_IDENTIFY   0xf2
#define COMMAND_TYPEMATIC  0xf3
#define COMMAND_ENABLE     0xf4
#define COMMAND_DISABLE    0xf5
#define COMMAND_DEFAULT    0xf6
#define COMMAND_RESEND     0xfe
#define COMMAND_RESET      0xff
#define REPLY_TEST_PASSED  0xaa
#define REPLY_ACKNOWLEDGED 0xfa
#define REPLY_AGAIN        0xfe
#define SCAN_SET           2
#define OPERANDS_END       0x80 /* what is not below is a command */

static void put(struct bytes *bytes, unsigned most, uint8_t byte)
{
	if (bytes->count < most)
		bytes->at[bytes->count++] = byte;
}

static bool take(struct bytes *bytes, uint8_t *byte)
{
	if (bytes->count == 0)
		return false;
	*byte = bytes->at[0];
	memmove(bytes->at, bytes->at + 1, --bytes->count);
	return true;
}

static void reply(struct keys *keys, uint8_t byte)
{
	put(&keys->replies, KEYS_REPLIES, byte);
}

void keys_init(struct keys *keys)
{
	memset(keys, 0, sizeof(*keys));
}

static void take_operand(struct keys *keys, uint8_t command, uint8_t operand)
{
	/* There is but one set. */
	if (command == COMMAND_SCAN_SET && operand != 0 && operand != SCAN_SET) {
		reply(keys, REPLY_AGAIN);
		return;
	}
	reply(keys, REPLY_ACKNOWLEDGED);
	if (command == COMMAND_SCAN_SET && operand == 0)
		reply(keys, SCAN_SET);
}

static void identify(struct keys *keys)
{
	reply(keys, REPLY_ACKNOWLEDGED);
	reply(keys, 0xab);
	reply(keys, 0x83);
}

static void set_scanning(struct keys *keys, bool scanning)
{
	keys->scanning = scanning;
	keys->codes.count = 0;
	reply(keys, REPLY_ACKNOWLEDGED);
}

static void begin(struct keys *keys, uint8_t command)
{
	switch (command) {
	case COMMAND_LEDS:
	case COMMAND_SCAN_SET:
	case COMMAND_TYPEMATIC:
		keys->expects = command;
		reply(keys, REPLY_ACKNOWLEDGED);
		break;
	case COMMAND_ECHO:
		reply(keys, COMMAND_ECHO);
		break;
	case COMMAND_IDENTIFY:
		identify(keys);
		break;
	case COMMAND_ENABLE:
	case COMMAND_DISABLE:
		set_scanning(keys, command == COMMAND_ENABLE);
		break;
	case COMMAND_DEFAULT:
		set_scanning(keys, keys->scanning);
		break;
	case COMMAND_RESEND:
		reply(keys, keys->last);
		break;
	case COMMAND_RESET:
		set_scanning(keys, true);
		reply(keys, REPLY_TEST_PASSED);
		break;
	default:
		reply(keys, REPLY_AGAIN);
		break;
	}
}

/* Whatever it was about to reply to the command before is forgotten. */
void keys_write(struct keys *keys, uint8_t byte)
{
	uint8_t command = keys->expects;

	keys->replies.count = 0;
	keys->expects = 0;
	if (command && byte < OPERANDS_END)
		take_operand(keys, command, byte);
	else
		begin(keys, byte);
}

bool keys_take(struct keys *keys, uint8_t *byte)
{
	if (!take(&keys->replies, byte) && !take(&keys->codes, byte))
		return false;
	keys->last = *byte;
	return true;
}

bool keys_ctrl_alt_del(struct keys *keys)
{
	static const uint8_t codes[] = {
		0x14,
		0x11,
		0xe0,
		0x71, /* left Ctrl, left Alt, Delete */
		0xe0,
		0xf0,
		0x71,
		0xf0,
		0x11,
		0xf0,
		0x14,
	};

	if (!keys->scanning || keys->codes.count > KEYS_CODES - sizeof(codes))
		return false;
	for (unsigned i = 0; i < sizeof(codes); i++)
		put(&keys->codes, KEYS_CODES, codes[i]);
	return true;
}

static void save_bytes(const struct bytes *bytes, struct state_writer *writer)
{
	state_put_u8(writer, bytes->count);
	state_put_bytes(writer, bytes->at, bytes->count);
}

static int restore_bytes(struct bytes *bytes, unsigned most, struct state_reader *reader)
{
	unsigned count = state_get_u8(reader);

	if (count > most)
		return -EINVAL;
	state_get_bytes(reader, bytes->at, count);
	bytes->count = (uint8_t)count;
	return 0;
}

void keys_save(const struct keys *keys, struct state_writer *writer)
{
	save_bytes(&keys->replies, writer);
	save_bytes(&keys->codes, writer);
	state_put_bool(writer, keys->scanning);
	state_put_u8(writer, keys->expects);
	state_put_u8(writer, keys->last);
}

int keys_restore(struct keys *keys, struct state_reader *reader)
{
	int ret = restore_bytes(&keys->replies, KEYS_REPLIES, reader);

	if (ret == 0)
		ret = restore_bytes(&keys->codes, KEYS_CODES, reader);
	if (ret < 0)
		return ret;
	keys->scanning = state_get_bool(reader);
	keys->expects = state_get_u8(reader);
	keys->last = state_get_u8(reader);
	return reader->failed ? -EINVAL : 0;
}
