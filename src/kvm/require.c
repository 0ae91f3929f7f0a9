/* SPDX-License-Identifier: Apache-2.0 */
#include "kvm/kvm.h"

#include <cpuid.h>
#include <errno.h>

#define CPUID_1_ECX_VMX        (1U << 5)
#define CPUID_80000001_ECX_SVM (1U << 2)

static bool cpu_virtualizes(void)
{
	unsigned a, b, c, d;

	if (__get_cpuid(1, &a, &b, &c, &d) && (c & CPUID_1_ECX_VMX))
		return true;
	return __get_cpuid(0x80000001, &a, &b, &c, &d) && (c & CPUID_80000001_ECX_SVM);
}

int kvm_require_hardware(const struct kvm_host *host, struct error *err)
{
	struct kvm_probe probe;
	int ret;

	if (cpu_virtualizes())
		return 0;
	ret = kvm_probe(host, &probe, err);
	if (ret < 0 || probe.hardware)
		return ret;
	return error_set(err, ENODEV,
		"/dev/kvm: %s; it cannot run stock kernels: use a host with hardware "
		"virtualization, or the nested lab, in a clone: lab/lab exec -- build/duet run "
		"...",
		probe.why);
}
