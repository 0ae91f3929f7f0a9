/* SPDX-License-Identifier: Apache-2.0 */
/* What tenants are asked, and answer. */
#ifndef LAB_TENANT_H
#define LAB_TENANT_H

#include <stdint.h>

struct tenant_message {
	uint64_t run;    /* of the one who asks: an answer of an earlier run is none */
	uint32_t number; /* of the request */
	uint32_t wrong;  /* pages that did not hold what they should, in an answer */
	char rest[48];
};

#endif
