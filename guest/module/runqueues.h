/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which CPU a run queue is of: the kernel's tracepoint gives its address and nothing else, and no
 * exported symbol tells more. But run queues are per-CPU variables, so that one constant separates
 * each from its CPU's offset; it is found by looking at one of each CPU.
 */
#ifndef DUET_MODULE_RUNQUEUES_H
#define DUET_MODULE_RUNQUEUES_H

struct rq;

/* Wakes a thread on each CPU, and learns from what duet_runqueue_cpu() is asked meanwhile. May
 * sleep. -EOPNOTSUPP: this kernel's are laid out otherwise. */
int duet_runqueues_learn(void);

/* Linux's number of the CPU, or -1: not known, or not yet. The caller holds the queue's lock. */
int duet_runqueue_cpu(const struct rq *rq);

#endif
