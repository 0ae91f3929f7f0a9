/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of fields of a configuration: name, type, range, default and help of each. Command
 * line,
 * --help, manual page, shell completion, JSON and the API are all made of it.
 */
#ifndef DUET_MACHINE_FIELDS_H
#define DUET_MACHINE_FIELDS_H

#include "machine/config.h"

#include <jansson.h>
#include <stddef.h>

enum field_kind {
	FIELD_TEXT,      /* char *, owned */
	FIELD_NUMBER,    /* unsigned */
	FIELD_LONG,      /* uint64_t */
	FIELD_SIZE,      /* uint64_t bytes: 512M, 4G */
	FIELD_LIMIT,     /* struct bucket_limit: 500, 50M+4M+1G, 10/100ms; 0: none */
	FIELD_SWITCH,    /* bool: on, off */
	FIELD_WORD,      /* an enum: the index of one of @words */
	FIELD_BITS,      /* uint64_t: hexadecimal */
	FIELD_MAC,       /* struct mac_address */
	FIELD_UUID,      /* struct machine_uuid */
	FIELD_PCI,       /* char *, owned: a PCI address of the host */
	FIELD_ADDRESSES, /* char *, owned: 10.0.0.2+fd00::2 */
	FIELD_RULES,     /* char *, owned: JSON; on the command line the name of a file with it */
	FIELD_PV,        /* unsigned: KVM's paravirtual features */
	FIELD_ID,        /* char[MACHINE_ID_SIZE] */
};

struct field {
	const char *name; /* "cpus": --cpus 2, or cpus=2 in an option with parts, or "cpus": 2 */
	enum field_kind kind;
	bool may_be_empty;
	size_t offset;
	uint64_t least, most;     /* of numbers and sizes; @most of a text: characters */
	const char *const *words; /* null at the end */
	const char *fallback;     /* as one would write it; null: unset */
	const char *unset;        /* what holds then, in the help */
	const char *section;      /* heading in the help: where it differs from the one before */
	const char *value;        /* what stands for it in the help, "FILE"; null: by its kind */
	const char *help;         /* lines end with \n, the last one does not */
};

struct field_set {
	const struct field *fields;
	unsigned count;
};

struct device;

/* What a type of device is called, and its own fields. */
struct device_type_info {
	const char *name;   /* "disk", in JSON and behind --device */
	const char *option; /* "--disk", "--device vfio"; null: it has none of its own */
	const char *usage;  /* "--disk path=FILE,..." */
	struct field_set fields;
	const char *help;   /* one line */
	const char *prefix; /* of ids given by duet: "disk" makes disk0 */
	unsigned most;      /* records of it */
	bool first_word;    /* its first field is written without a name: --net user,... */
	bool may_be_bare;   /* its option needs no value */
	bool automatic;     /* comes by itself: not to be asked for */
	bool is_virtio;     /* unless its model says otherwise: device_is_virtio() */
	/* Makes a device that needs nothing but its name (@packed: offers packed rings); null: it
	 * is made in machine/devices.c. */
	int (*create)(struct device **device, const char *name, bool packed, struct error *err);
};

extern const struct field_set machine_fields;
/* Those that every device has: id, slot, features. */
extern const struct field_set device_fields;
extern const struct device_type_info device_types[DEVICE_TYPES];

/* What --pmu may be, by its number; null at the end. */
extern const char *const pmu_words[];

/* The options of duet run that are no field of a machine, but of the process that runs it; null at
 * the end. Here so that who writes one into a file is told so. */
extern const char *const process_options[];

/* Null when there is none. */
const struct field *field_find(const struct field_set *set, const char *name, size_t length);
/* One of device_fields or of the type's own, by its name; null when there is none. */
const struct field *device_field_find(enum device_type type, const char *name, size_t length);
/* Its place in device_config.lines, below DEVICE_FIELDS_MAX. */
unsigned device_field_number(enum device_type type, const struct field *field);
/* DEVICE_TYPES when there is none of the name. */
enum device_type device_type_find(const char *name, size_t length);

/* In the struct @target that the set is for. @what begins the message: "--cpus 0". */
int field_from_text(const struct field *field, void *target, const char *text, const char *what,
	struct error *err);
int field_from_json(const struct field *field, void *target, const json_t *value, const char *what,
	struct error *err);
/* @value: a new reference, null when it is at its default. -EILSEQ: no UTF-8; -ENOMEM. */
int field_to_json(const struct field *field, const void *target, json_t **value);

void fields_init(const struct field_set *set, void *target);
void fields_free(const struct field_set *set, void *target);
/* The texts of @target are another struct's: they become its own. -ENOMEM, and then all are null
 * that could not. */
int fields_own(const struct field_set *set, void *target);

#endif
