/* SPDX-License-Identifier: Apache-2.0 */
/* What the words of the `#syscalls` comments mean: the kernel's names, and some of our own. */
#ifndef DUET_SANDBOX_CONSTANTS_H
#define DUET_SANDBOX_CONSTANTS_H

#include <asm/termbits.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/userfaultfd.h>
#include <linux/vfio.h>
#include <linux/vhost.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>

/* Linux 6.11 */
#ifndef KVM_PRE_FAULT_MEMORY
#define KVM_PRE_FAULT_MEMORY _IOWR(KVMIO, 0xd5, uint64_t[8])
#endif
/* liburing's headers come with <linux/io_uring.h>, which is older or newer than they are. */
#define IORING_ENABLE_RINGS 12

/* A thread of this process, as libc makes it. */
#define THREAD_FLAGS                                                                               \
	(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | CLONE_SIGHAND | CLONE_THREAD |        \
		CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID)

/* Stands for the process's own number until a filter is loaded; no number of a process is so large
 * (the kernel's limit is 2^22). */
#define OWN_PID 0x5eccc001U

#endif
