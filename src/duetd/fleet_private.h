/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fleet.c (the directory and its VMs), fleet_ask.c (a question to one) and fleet_take.c (what
 * is made of its answer) share. Main thread.
 */
#ifndef DUET_DUETD_FLEET_PRIVATE_H
#define DUET_DUETD_FLEET_PRIVATE_H

#include "base/loop.h"
#include "duetd/answers.h"
#include "duetd/fleet.h"
#include "http/client.h"

#include <sys/stat.h>

struct member;

/* What a VM is asked, or told. */
enum ask_kind {
	ASK_BRIEF,
	ASK_BALLOON,
	ASK_SHARING,
	ASK_PLACE, /* what its vCPUs use is to come to their nodes */
	ASK_MAP,   /* its guest is to say what they use */
	ASK_KINDS,
};

/* A question on its way. */
struct ask {
	struct loop_watch watch;
	struct loop_timer patience;
	struct http_question *question;
	struct member *member;
	enum ask_kind kind;
};

/* A socket of the directory. */
struct member {
	struct member *next;
	struct fleet *fleet;
	char name[VIEW_NAME_MAX];
	char *socket;
	ino_t inode; /* of the socket: another one is another VM's */
	bool seen;   /* in this reading of the directory */

	pid_t pid;
	bool well, here; /* here: it has come, and was told of */
	char fault[256];
	unsigned faults, quiet; /* in a row: answers that were none, answers of nothing new */
	struct answer answer;   /* its last */
	uint64_t since;         /* when it came, ns */
	uint64_t answered;      /* when it did last, ns; 0: never */
	uint64_t target_since;  /* since when the balloon is told what it is told */

	struct ask *ask; /* null: none is on its way */
	struct loop_timer next_time;

	bool leased;
	bool due[ASK_KINDS]; /* told what is wanted as soon as no question is on its way */
	uint64_t told_mib, told_at, wanted_mib;
	bool shares; /* it was told to, and its lease is not given up */
	enum sharing told_sharing, wanted_sharing;
	unsigned wanted_ms;            /* the lease of that */
	uint64_t sharing_at;           /* when it was told, ns; 0: never */
	int8_t nodes[VIEW_VCPUS_MAX];  /* where its memory was told to come, by vCPU */
	uint64_t placed_at, wished_at; /* when it was told so, and asked for a map, ns; 0: never */
};

/* The lease that something is given to end with. */
#define FLEET_END_MS 1

struct fleet_notice;

struct fleet {
	struct loop *loop;
	struct fleet_options options; /* its directory is the fleet's */
	char *directory;
	struct fleet_notice *notice;
	struct loop_timer again; /* reads the directory, whatever was missed */
	struct member *members;
	struct vm_view *views;
	unsigned room;
};

/* fleet_ask.c: what is due, else for news of it. */
void fleet_ask(struct member *member);
bool fleet_is_due(const struct member *member);
/* Nothing is any more. */
void fleet_forget_due(struct member *member);
void fleet_ask_end(struct ask *ask);
/* Balloons and what is shared go back to what they were. */
void fleet_let_go(struct fleet *fleet);

/* fleet_place.c: what of @plan concerns nodes becomes due; in words. */
void fleet_place(struct member *member, const struct vm_plan *plan);
void fleet_place_text(const struct member *member, char *text, size_t room);

/* fleet_take.c */
void fleet_take_answer(struct member *member, const struct http_answer *answer, pid_t pid);
/* @ended: nobody listens, so its process has ended. */
void fleet_take_fault(struct member *member, const char *why, bool ended);
/* It is gone: told to whoever was told that it came. */
void fleet_gone(struct member *member);
/* When it is asked next. */
void fleet_schedule(struct member *member);

#endif
