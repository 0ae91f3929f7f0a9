/* SPDX-License-Identifier: Apache-2.0 */
/* Options with parts: --disk path=F,..., --net tap,ifname=T,..., --device vfio,host=B */
#ifndef DUET_CLI_SUBOPTIONS_H
#define DUET_CLI_SUBOPTIONS_H

#include "cli/options.h"

int suboptions_disk(struct run_options *options, const char *value, struct error *err);
int suboptions_net(struct run_options *options, const char *value, struct error *err);
int suboptions_device(struct run_options *options, const char *value, struct error *err);

#endif
