/* SPDX-License-Identifier: Apache-2.0 */
/* What writer and reader of state.h agree on. */
#ifndef DUET_STATE_FORMAT_H
#define DUET_STATE_FORMAT_H

#define STATE_MAGIC          "DUETSAVE"
#define STATE_MAGIC_LENGTH   8
#define STATE_FORMAT_VERSION 1U
#define STATE_HEADER_LENGTH  (STATE_MAGIC_LENGTH + 4)
#define STATE_END_NAME       "end"

#endif
