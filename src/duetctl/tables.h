/* SPDX-License-Identifier: Apache-2.0 */
/* What duetd answers, for people, on standard output. Any thread. */
#ifndef DUET_DUETCTL_TABLES_H
#define DUET_DUETCTL_TABLES_H

#include <jansson.h>

/* GET /vms; by name. */
void table_vms(const json_t *vms);
/* GET /host and GET /vms; the busiest first, at most @most of them. */
void table_top(const json_t *host, const json_t *vms, unsigned most);
/* GET /vms/NAME. */
void table_vm(const json_t *vm);
/* GET /policies. */
void table_policies(const json_t *policies);

#endif
