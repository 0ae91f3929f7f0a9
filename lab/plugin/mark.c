/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mark NUMBER... [exec PROGRAM ARGUMENT...]: marks a point from a shell, NUMBER
 * from 0 to 255 (see mark.h), and then becomes PROGRAM, given by its path.
 * Static and without a C library, so that little but the exec itself comes on
 * top of what is measured:
 * gcc -O2 -static -nostdlib -ffreestanding -o mark mark.c
 */
#include "mark.h"

/* The number is part of the instruction: one of them, and a return, each 8 bytes. */
__asm__(".balign 8\n"
	"marks:\n"
	".set number, 0\n"
	".rept 256\n"
	".byte 0x0f, 0x1f, 0x80\n"
	".long 0x44550000 + number\n"
	"ret\n"
	".set number, number + 1\n"
	".endr\n");

_Static_assert(LAB_MARK_MAGIC == 0x44550000U, "the table above has this magic");

extern const char marks[];

static unsigned int number_of(const char *text)
{
	unsigned int number = 0;

	while (*text >= '0' && *text <= '9')
		number = number * 10 + (unsigned int)(*text++ - '0');
	return number & 0xff;
}

__attribute__((noreturn)) static void leave(long code)
{
	__asm__ volatile("syscall" : : "a"(231L), "D"(code));
	__builtin_unreachable();
}

/* Returns only when PROGRAM cannot be run. */
static void become(char *const *argv, char *const *envp)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "a"(59L), "D"(argv[0]), "S"(argv), "d"(envp)
			 : "rcx", "r11", "memory");
	leave(127);
}

__attribute__((used, noreturn)) void run(const long *stack)
{
	char *const *argv = (char *const *)(stack + 1);
	long argc = stack[0];

	for (long i = 1; i < argc; i++) {
		/* "exec" is the only word that starts with a letter. */
		if (argv[i][0] == 'e' && i + 1 < argc)
			become(argv + i + 1, argv + argc + 1);
		((void (*)(void))(marks + number_of(argv[i]) * 8))();
	}
	leave(argc < 2);
}

__asm__(".globl _start\n"
	"_start:\n"
	"mov %rsp, %rdi\n"
	"and $-16, %rsp\n"
	"call run\n");
