/* SPDX-License-Identifier: Apache-2.0 */
/* In a guest: "kexecute KERNEL INITRD" goes on with that kernel, as kexec(8) does, by the words
 * that this one was given. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC1    0xfee1deadL
#define MAGIC2    672274793L
#define CMD_KEXEC 0x45584543L
#define WORDS_MAX 2048

static long fail(const char *what)
{
	perror(what);
	return 1;
}

int main(int argc, char **argv)
{
	char words[WORDS_MAX] = "";
	FILE *file = fopen("/proc/cmdline", "r");
	int kernel, initrd;

	if (argc != 3 || !file || !fgets(words, sizeof(words), file))
		return (int)fail("kexecute KERNEL INITRD");
	words[strcspn(words, "\n")] = '\0';
	kernel = open(argv[1], O_RDONLY);
	initrd = open(argv[2], O_RDONLY);
	if (kernel < 0 || initrd < 0)
		return (int)fail("open");
	if (syscall(SYS_kexec_file_load, kernel, initrd, strlen(words) + 1, words, 0L) < 0)
		return (int)fail("kexec_file_load");
	syscall(SYS_reboot, MAGIC1, MAGIC2, CMD_KEXEC, NULL);
	return (int)fail("reboot");
}
