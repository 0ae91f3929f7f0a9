/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DUET_OCI_SHARE_PRIVATE_H
#define DUET_OCI_SHARE_PRIVATE_H

#include "oci/share.h"

#include <dirent.h>
#include <linux/fuse.h>
#include <sys/stat.h>

#define SHARE_BUCKETS 4096
#define SHARE_OPEN    4096 /* files and folders at once */

/* What the guest has been told of. */
struct share_node {
	int fd;        /* O_PATH; -1: the place is free */
	uint32_t mode; /* its type */
	dev_t device;
	ino_t inode;
	uint64_t lookups;
	uint32_t next; /* in the bucket, or of the free ones; 0: none */
};

struct share_handle {
	int fd;    /* of a file; -1: none */
	DIR *list; /* of a folder; null: none */
};

struct share_server {
	bool readonly;
	struct share_node *nodes; /* by number; 0 is none, FUSE_ROOT_ID the root */
	uint32_t node_count, free_nodes;
	uint32_t buckets[SHARE_BUCKETS];
	struct share_handle handles[SHARE_OPEN];
};

/* Null: no node of this number. */
struct share_node *share_node(struct share_server *server, uint64_t number);
/* One lookup more of @fd's file, which becomes the server's whatever happens. Negative errno. */
int share_node_add(struct share_server *server, int fd, struct fuse_entry_out *entry);
void share_node_forget(struct share_server *server, uint64_t number, uint64_t lookups);

void share_attributes(const struct stat *info, struct fuse_attr *attr);

/* A handle's number; -ENFILE. What it gets is the server's in any case. */
int share_handle_add(struct share_server *server, int fd, DIR *list);
struct share_handle *share_handle(struct share_server *server, uint64_t number);
void share_handle_close(struct share_handle *handle);

/* One request: its header, what follows it, and where the answer goes. */
struct share_request {
	const struct fuse_in_header *head;
	const uint8_t *body;
	size_t length;
	uint8_t *out; /* SHARE_DATA_MAX */
	size_t out_length;
};

/* The answer's body of @size bytes, all zero, behind what is there already. */
void *share_body(struct share_request *request, size_t size);

/* Each returns 0 or the errno, negative, of the answer. */
int share_read(struct share_server *server, struct share_request *request);
int share_write(struct share_server *server, struct share_request *request);
int share_open(struct share_server *server, struct share_request *request);
int share_create(struct share_server *server, struct share_request *request);
int share_release(struct share_server *server, struct share_request *request);
int share_sync(struct share_server *server, struct share_request *request);
int share_opendir(struct share_server *server, struct share_request *request);
int share_readdir(struct share_server *server, struct share_request *request);
int share_allocate(struct share_server *server, struct share_request *request);

/* The name at @*at of a request, which ends by null there; moves @*at behind it. Null: it is none
 * that a folder has. */
const char *share_name(const struct share_request *request, size_t *at);
/* The new file is the guest's user's. */
int share_own(int dir, const char *name, const struct share_request *request);

#endif
