/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Marks a point in a program: under the lab's QEMU the plugin notes how many
 * instructions each vCPU has executed there, with the mark's number. Everywhere
 * else it is one no-op of seven bytes: nopl disp32(%rax), whose displacement is
 * the magic 0x4455 in its upper half and the mark's number in its lower one.
 *
 * It works in the lab host and in its guests, in user space and in a kernel.
 * The number is a constant from 0 to 65535.
 */
#ifndef LAB_MARK_H
#define LAB_MARK_H

#define LAB_MARK_MAGIC 0x44550000U
#define LAB_MARK_SIZE  7
/* Notes no counts: the memory accesses of the block around it are counted by physical address
 * (touch.h). */
#define LAB_TOUCH 65534

#define LAB_MARK(number)                                                                           \
	__asm__ volatile(".byte 0x0f, 0x1f, 0x80\n\t.long %c0"                                     \
			 :                                                                         \
			 : "i"((LAB_MARK_MAGIC | ((number)&0xffffU)))                              \
			 : "memory")

#endif
