/* SPDX-License-Identifier: Apache-2.0 */
/* virtio-console: the device (console.c) and the two descriptors behind it (console_output.c,
 * console_input.c). */
#ifndef DUET_VIRTIO_DEVICES_CONSOLE_PRIVATE_H
#define DUET_VIRTIO_DEVICES_CONSOLE_PRIVATE_H

#include "base/nowait.h"
#include "base/room.h"
#include "virtio/devices.h"
#include "virtio/devices/common.h"

#include <pthread.h>

#define CONSOLE_RECEIVE     0
#define CONSOLE_TRANSMIT    1
#define CONSOLE_SEGMENTS    128
#define CONSOLE_OUTPUT_SIZE 8192
#define CONSOLE_INPUT_SIZE  4096

struct console_buffer {
	size_t length;
	uint8_t bytes[CONSOLE_OUTPUT_SIZE];
};

/*
 * The guest's output is copied here and its buffers go back at once; one buffer is being written
 * while the other is filled. The write is an operation on the loop, so a terminal that takes
 * nothing (Ctrl-S) stops this guest's console and no other device.
 */
struct console_output {
	int fd;
	struct nowait now; /* the same, for what does not go by the loop */
	bool dead;         /* the descriptor failed: what the guest says is thrown away */
	bool writing;
	struct loop_op op, cancel;
	struct loop_timer patience; /* while coming to rest: a slow reader gets this much time */
	bool stopping;              /* nothing more is begun */
	size_t sent;                /* of the buffer being written */
	unsigned filling;
	struct console_buffer buffers[2];
	/* A chain of which @taken bytes were copied when the buffers became full; when it was put
	 * back into the ring, what is to be left out of the next one. */
	bool pending;
	uint64_t taken;
	struct virtqueue_chain chain;
	struct iovec segments[CONSOLE_SEGMENTS];
};

struct console_input {
	int fd; /* -1: only virtio_console_input() */
	struct loop_op op, cancel;
	bool reading, ended;
	bool empty;        /* and the descriptor does not block: it is polled */
	unsigned quiet_ms; /* as in struct virtio_console_options */
	bool settled;      /* the driver gets input; I/O loop, or at rest */
	uint64_t settled_by;
	struct loop_timer settling;
	uint8_t bytes[256]; /* being read */
	/* Between the main thread and the I/O loop. */
	pthread_mutex_t lock;
	uint8_t ring[CONSOLE_INPUT_SIZE];
	size_t start, length;
	struct room room;
	struct loop_task task;
	bool posted;
};

struct console {
	struct virtio_device virtio;
	_Atomic uint32_t size; /* columns, rows << 16 */
	struct console_output output;
	struct console_input input;
	_Atomic uint64_t bytes_in, bytes_out;
};

/* console_output.c; I/O loop. */
enum virtio_progress console_transmit(struct console *console);
void console_output_start(struct console *console);
/* Waits for a moment until what the guest said is written; the rest is kept for later. */
void console_output_stop(struct console *console);
void console_output_save(const struct console_output *output, struct state_writer *writer);
int console_output_restore(struct console_output *output, struct state_reader *reader);
/* Main thread, at rest, at the very end: what is still kept is written, with a little patience,
 * or with @hurry with hardly any. */
void console_output_finish(struct console *console, bool hurry);
/* Any thread: one character past everything, if the descriptor takes it now. */
void console_emergency(const struct console *console, char character);
void console_output_init(struct console_output *output, int fd);
void console_output_destroy(struct console_output *output);

/* console_input.c; I/O loop. */
enum virtio_progress console_receive(struct console *console);
void console_input_start(struct console *console);
void console_input_stop(struct console *console);
void console_input_task(struct loop_task *task);
/* The driver has said something. */
void console_input_heard(struct console *console);
void console_input_settled(struct loop_timer *timer); /* of input.settling */
/* Any thread. */
size_t console_input_put(struct console *console, const void *bytes, size_t length);
void console_input_save(struct console_input *input, struct state_writer *writer);
int console_input_restore(struct console_input *input, struct state_reader *reader);

#endif
