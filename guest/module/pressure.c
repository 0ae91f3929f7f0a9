// SPDX-License-Identifier: GPL-2.0-only
/*
 * Pressure stall information from proc's own files, opened on a mount of the module's own: the
 * namespaces and roots of whoever loads the module do not matter then.
 */
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/lockdep.h>
#include <linux/mount.h>
#include <linux/seq_file.h>
#include <linux/string.h>
#include <linux/uio.h>

#include "pressure.h"

#define TEXT 256 /* two lines of four figures */

static struct vfsmount *proc;

static struct {
	const char *name;
	unsigned int some, full; /* places of its figures; DUET_PRESSURES: not wanted */
	struct file *file;
} sources[] = {
	{"pressure/memory", 0, 1},
	{"pressure/cpu", 2, DUET_PRESSURES},
	{"pressure/io", 3, 4},
};

/* Nobody else reads it. By the class of all seq_files lockdep would take its lock for one that is held
 * where devices go, and they wait for the heartbeat, which reads it. */
static void set_apart(struct file *file)
{
	static struct lock_class_key key;

	lockdep_set_class(&((struct seq_file *)file->private_data)->lock, &key);
}

static struct file *open_source(const char *name)
{
	struct path root = {.mnt = proc, .dentry = proc->mnt_root};
	struct file *file = file_open_root(&root, name, O_RDONLY, 0);

	if (IS_ERR(file))
		return NULL;
	set_apart(file);
	return file;
}

void duet_pressure_open(void)
{
	struct file_system_type *type = get_fs_type("proc");
	struct vfsmount *mount = type ? kern_mount(type) : ERR_PTR(-ENODEV);
	unsigned int i;

	if (IS_ERR(mount))
		return;
	proc = mount;
	for (i = 0; i < ARRAY_SIZE(sources); i++)
		sources[i].file = open_source(sources[i].name);
}

void duet_pressure_close(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sources); i++) {
		if (sources[i].file)
			fput(sources[i].file);
		sources[i].file = NULL;
	}
	if (proc)
		kern_unmount(proc);
	proc = NULL;
}

/* kernel_read() refuses files without ->read_iter, which these are; they are seq_files, and that
 * has a way in of its own. */
static ssize_t read_source(struct file *file, char *text, size_t size)
{
	struct kvec buffer = {.iov_base = text, .iov_len = size - 1};
	struct kiocb kiocb;
	struct iov_iter iter;
	ssize_t length;

	init_sync_kiocb(&kiocb, file);
	iov_iter_kvec(&iter, READ, &buffer, 1, buffer.iov_len);
	length = seq_read_iter(&kiocb, &iter);
	text[length > 0 ? length : 0] = 0;
	return length;
}

/* "some avg10=1.23 ...": hundredths of a percent. */
static u32 figure(const char *text, const char *line)
{
	const char *found = strstr(text, line);
	unsigned int whole, hundredths;

	if (!found || sscanf(found + strlen(line), " avg10=%u.%u", &whole, &hundredths) != 2)
		return 0;
	return whole * 100 + hundredths;
}

void duet_pressure_read(u32 pressure[DUET_PRESSURES])
{
	char text[TEXT];
	unsigned int i;

	memset(pressure, 0, DUET_PRESSURES * sizeof(*pressure));
	for (i = 0; i < ARRAY_SIZE(sources); i++) {
		if (!sources[i].file || read_source(sources[i].file, text, sizeof(text)) <= 0)
			continue;
		pressure[sources[i].some] = figure(text, "some");
		if (sources[i].full < DUET_PRESSURES)
			pressure[sources[i].full] = figure(text, "full");
	}
}
