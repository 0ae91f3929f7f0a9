/* SPDX-License-Identifier: Apache-2.0 */
/* Kicks: a vCPU that spins, one that sleeps in HLT, one that is not running yet. */
#include "tiny.h"

#include <time.h>

static void sleep_ms(long milliseconds)
{
	const struct timespec delay = {.tv_nsec = milliseconds * 1000000L};

	nanosleep(&delay, NULL);
}

static void *run_until_kicked(void *opaque)
{
	struct tiny *tiny = opaque;
	enum kvm_run_result result = KVM_RUN_AGAIN;

	kvm_vcpu_thread_init(tiny->vcpu);
	while (result == KVM_RUN_AGAIN)
		result = kvm_vcpu_run(tiny->vcpu);
	return (void *)(intptr_t)result;
}

static void test_kick(const uint8_t *code, size_t length, enum kvm_vm_irqchip irqchip,
	long delay_ms, const char *name)
{
	struct tiny tiny;
	pthread_t thread;
	void *result;

	tiny_open(&tiny, irqchip);
	tiny_load(&tiny, TINY_CODE, code, length);
	for (unsigned i = 0; i < 20; i++) {
		if (delay_ms < 0)
			kvm_vcpu_kick(tiny.vcpu);
		CHECK(pthread_create(&thread, NULL, run_until_kicked, &tiny) == 0);
		if (delay_ms >= 0) {
			sleep_ms(i % 2 ? delay_ms : 0);
			kvm_vcpu_kick(tiny.vcpu);
		}
		CHECK(pthread_join(thread, &result) == 0);
		CHECK((intptr_t)result == KVM_RUN_KICKED);
		/* The thread's number is not valid any more. */
		atomic_store(&tiny.vcpu->threaded, false);
	}
	tiny_close(&tiny);
	tiny_ok(name);
}

int main(void)
{
	static const uint8_t spin[] = {0xeb, 0xfe};              /* 1: jmp 1b */
	static const uint8_t sleeping[] = {0xfa, 0xf4};          /* cli; hlt */
	static const uint8_t ports[] = {0xe4, 0x99, 0xeb, 0xfc}; /* 1: in $0x99, %al; jmp 1b */

	test_kick(spin, sizeof(spin), KVM_VM_IRQCHIP_KERNEL, 10, "kick of a spinning vCPU");
	test_kick(sleeping, sizeof(sleeping), KVM_VM_IRQCHIP_KERNEL, 10, "kick of a halted vCPU");
	test_kick(ports, sizeof(ports), KVM_VM_IRQCHIP_KERNEL, 10, "kick among exits");
	test_kick(spin, sizeof(spin), KVM_VM_IRQCHIP_KERNEL, -1, "kick before the run");
	return 0;
}
