/* SPDX-License-Identifier: Apache-2.0 */
#ifndef DUET_CLI_CTL_POLICY_H
#define DUET_CLI_CTL_POLICY_H

/* The fields of a network's policy as PATCH /duet/devices takes them, of @count words NAME=VALUE:
 * mac-check=on, ip=A+B, rules=FILE, rules-default=deny; nothing behind "ip=" or "rules=" takes them
 * away. The caller's, to be freed; null: the log has said why not. */
char *ctl_policy(unsigned count, const char *const *words);

#endif
