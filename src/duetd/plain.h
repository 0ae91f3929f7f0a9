/* SPDX-License-Identifier: Apache-2.0 */
/* Words that quote what others chose: a VM's answer, the name of a cgroup. Any thread. */
#ifndef DUET_DUETD_PLAIN_H
#define DUET_DUETD_PLAIN_H

/* Made fit for a terminal, and for JSON, which takes no bytes that are not UTF-8: ASCII alone. */
static inline void make_plain(char *text)
{
	for (; *text; text++)
		if (*text < ' ' || *text > '~')
			*text = '?';
}

#endif
