/* SPDX-License-Identifier: Apache-2.0 */
/* The ring-0 probe comes to a verdict, the same twice, and the errors of set-up have words. */
#include "tiny.h"

#include <string.h>

static void test_probe(void)
{
	struct kvm_probe first, second;
	struct tiny tiny;
	struct error err = {0};

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	CHECK(kvm_probe(&tiny.host, &first, &err) == 0);
	CHECK(kvm_probe(&tiny.host, &second, &err) == 0);
	CHECK(first.hardware == second.hardware && first.ring0_works == second.ring0_works);
	CHECK(first.why[0] && (!first.hardware || first.ring0_works));
	CHECK(!first.hardware || first.ns_per_instruction > 0);
	CHECK(first.tsc_khz == second.tsc_khz && (!first.hardware || first.tsc_khz > 0));
	printf("%s\n", first.why);
	tiny_close(&tiny);
	tiny_ok("probe");
}

static void test_too_many_cpus(void)
{
	struct tiny tiny;
	struct kvm_vm *vm;
	struct error err = {0};

	tiny_open(&tiny, KVM_VM_IRQCHIP_NONE);
	CHECK(kvm_vm_new(&vm, &tiny.host, &(struct kvm_vm_options){.cpus = tiny.host.vcpus_max + 1},
		      &err) < 0);
	CHECK(strstr(err.text, "--cpus"));
	tiny_close(&tiny);
	tiny_ok("too many vCPUs");
}

int main(void)
{
	test_probe();
	test_too_many_cpus();
	return 0;
}
