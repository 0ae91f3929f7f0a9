/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of config.json, one file each; each @node is the part's, and there. */
#ifndef DUET_OCI_BUNDLE_PRIVATE_H
#define DUET_OCI_BUNDLE_PRIVATE_H

#include "oci/bundle.h"
#include "oci/node.h"

int bundle_take_process(struct process *process, const struct node *node);
int bundle_take_mounts(struct setup *setup, const struct node *node);
int bundle_take_linux(struct bundle *bundle, const struct node *node);
int bundle_take_hooks(struct bundle *bundle, const struct node *node);
/* "rslave" and its like as mount(2) has it; -EINVAL. */
int propagation_parse(const char *word, uint32_t *flags);

#endif
