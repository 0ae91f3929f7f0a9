/* SPDX-License-Identifier: Apache-2.0 */
/* The cooperation device on the fake machine, with a guest's driver that calls and asks it. What
 * cannot be fails the test. */
#ifndef DUET_TESTS_COOP_RIG_H
#define DUET_TESTS_COOP_RIG_H

#include "device_rig.h"
#include "fake_coop_host.h"

#include <duet/coop.h>

#define COOP_RIG_SLOT    1
#define COOP_RIG_VCPUS   FAKE_COOP_VCPUS
#define COOP_RIG_DATA    DEVICE_RIG_DATA
#define COOP_RIG_ANSWERS (DEVICE_RIG_DATA + 0x10000)

#define COOP_F(bit) VIRTIO_FEATURE(DUET_COOP_F_##bit)
#define COOP_F_ALL                                                                                 \
	(COOP_F(HINTS) | COOP_F(TIME) | COOP_F(YIELD) | COOP_F(COUNTERS) | COOP_F(WISHES))

#define COOP_FIELD(name) offsetof(struct duet_coop_config, name)

struct coop_rig {
	struct device_rig device;
	struct fake_coop_host host;
	uint64_t ports, memory, length; /* found by its capabilities */
	uint8_t id;
};

/* All that it can do, but the host, which is the rig's own. */
extern const struct virtio_coop_options coop_rig_options;

/* The device started, without a driver. */
struct coop_rig *coop_rig_new(const struct virtio_coop_options *wanted);
/* No counter is open, and the device asked its host for nothing that it must not. */
void coop_rig_free(struct coop_rig *rig);
/* A driver of these features; @version 0: it says none. */
void coop_rig_up(struct coop_rig *rig, uint64_t features, uint32_t version);
void coop_rig_set_version(struct coop_rig *rig, uint32_t version);

uint32_t coop_rig_pci(struct coop_rig *rig, unsigned offset, unsigned size);
uint64_t coop_rig_config(struct coop_rig *rig, unsigned offset, unsigned size);
/* Where the shared memory is now. */
void coop_rig_find_shared(struct coop_rig *rig);
/* As the guest, which looks at it first. */
struct duet_coop_page *coop_rig_page(struct coop_rig *rig, unsigned vcpu);
void coop_rig_ring(struct coop_rig *rig, unsigned port, unsigned size);
/* A fast call on vCPU @vcpu; its status. */
int coop_rig_call(
	struct coop_rig *rig, unsigned vcpu, uint32_t function, uint64_t first, uint64_t second);
/* @count requests in one chain; bytes of their answers, which are at COOP_RIG_ANSWERS. */
uint32_t coop_rig_request(
	struct coop_rig *rig, const struct duet_coop_request *requests, unsigned count);
const struct duet_coop_answer *coop_rig_answer(struct coop_rig *rig, unsigned index);
int coop_rig_request_one(struct coop_rig *rig, uint32_t function, const uint64_t arguments[5]);
uint64_t coop_rig_counted(struct coop_rig *rig, const char *group, const char *name);
struct virtio_coop_runs coop_rig_runs(struct coop_rig *rig, enum virtio_coop_kind kind);
void coop_rig_wish(struct coop_rig *rig, enum virtio_coop_kind kind);

#define COOP_SHARE(...) coop_rig_request_one(rig, DUET_COOP_SHARE, (const uint64_t[5]){__VA_ARGS__})
#define COOP_LOCALITY(...)                                                                         \
	coop_rig_request_one(rig, DUET_COOP_LOCALITY, (const uint64_t[5]){__VA_ARGS__})

#endif
