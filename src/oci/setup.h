/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's agent is told of a container and of its processes. The host makes it of the
 * bundle's config.json, and the agent does what it says: nothing here is a decision of the agent's.
 */
#ifndef DUET_OCI_SETUP_H
#define DUET_OCI_SETUP_H

#include "oci/wire.h"

#define SETUP_MOUNTS_MAX 512
#define SETUP_LINKS_MAX  8
#define SETUP_LIMITS_MAX 32
#define SETUP_CAP_SETS   5 /* bounding, effective, inheritable, permitted, ambient */
#define SETUP_SHARES_MAX 32

/* The host's own names of resources: the guest's Linux is of the same architecture. */
struct limit {
	uint32_t resource;
	uint64_t soft, hard;
};

struct process {
	struct texts args, env;
	char *cwd;
	uint32_t uid, gid, mask; /* umask */
	uint32_t *groups;
	uint32_t group_count;
	bool terminal, no_new_privileges;
	uint32_t rows, columns; /* of the terminal; 0: not known */
	uint64_t capabilities[SETUP_CAP_SETS];
	struct limit limits[SETUP_LIMITS_MAX];
	uint32_t limit_count;
	bool has_oom_score;
	uint32_t oom_score; /* an int */
};

enum mount_kind {
	MOUNT_KERNEL, /* a file system of the guest's kernel: type, source, flags, data */
	MOUNT_FILE,   /* a file whose content comes along */
	MOUNT_SHARE,  /* a directory of the host, by FUSE over a connection to a port of the host */
	MOUNT_KINDS,
};

struct mount {
	char *destination; /* absolute, in the container */
	uint32_t kind;
	char *type, *source, *data; /* of the kernel */
	uint64_t flags;             /* mount(2)'s */
	uint32_t propagation;       /* mount(2)'s, too; 0: as it is */
	uint32_t port;              /* a share's */
	bool is_file;               /* it is no directory */
	struct blob content;
	uint32_t mode, uid, gid; /* the file's */
	/* Of one side alone: the host's, and the agent's. */
	bool is_bind;
	int fuse,
		mounted; /* descriptors of its share: /dev/fuse, and an event once it is mounted */
};

struct address {
	uint32_t family, prefix; /* AF_INET, AF_INET6 */
	uint8_t bytes[16];
};

struct route {
	struct address to, via; /* of family 0: none, which is the default route, or on the link */
	uint32_t metric;
};

#define LINK_ADDRESSES_MAX 16
#define LINK_ROUTES_MAX    64
#define LINK_NAME_SIZE     16

struct link {
	char *name;   /* as the engine called it */
	uint64_t mac; /* six bytes, the first one the highest: which card it is */
	uint32_t mtu;
	struct address addresses[LINK_ADDRESSES_MAX];
	uint32_t address_count;
	struct route routes[LINK_ROUTES_MAX];
	uint32_t route_count;
};

struct setup {
	char *hostname, *domainname; /* null: none */
	bool root_readonly;
	char *root_type;      /* of the disk's file system */
	uint32_t propagation; /* of the root */
	struct mount *mounts;
	uint32_t mount_count;
	struct texts masked, readonly; /* paths */
	struct texts sysctl;           /* name, value, name, value ... */
	struct link links[SETUP_LINKS_MAX];
	uint32_t link_count;
	uint64_t memory; /* bytes; 0: no limit */
	uint64_t pids;   /* 0: no limit */
	struct process process;
};

/* What has run in the container so far, and what runs. */
struct usage {
	uint64_t cpu_ns, user_ns, system_ns;
	uint64_t memory, memory_peak, memory_limit; /* bytes; no limit: UINT64_MAX */
	uint64_t pids, pids_limit;
};

struct listed {
	uint32_t pid, uid; /* as they are in the container */
	char *command;
};

struct listing {
	struct listed *items;
	uint32_t count;
};
#define LISTING_MAX 4096

/* Each both ways, as the wire says. */
void wire_process(struct wire *wire, struct process *process);
void wire_setup(struct wire *wire, struct setup *setup);
void wire_usage(struct wire *wire, struct usage *usage);
void wire_listing(struct wire *wire, struct listing *listing);

void process_free(struct process *process);
void setup_free(struct setup *setup);
void listing_free(struct listing *listing);

#endif
