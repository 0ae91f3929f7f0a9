/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A line is KIND WHERE VALUE, its blanks and line ends written as %20 and so on. It counts when its
 * line end is there: one cut off by a crash stands for a change that was not made yet. What was
 * forgotten is a line of its own; when most of the file is of no use any more it is written anew
 * beside itself and renamed, so that at any point one whole journal is there.
 */
#include "duetd/journal.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#define FIRST_LINE "duetd journal 1\n"
#define FORGOTTEN  "forget"
#define SIZE_MAX_B (16U << 20) /* ours is never as large */
/* Lines of no use before it is written anew, beyond as many as are of use. */
#define STALE_MAX 256

struct journal {
	char *path;
	int fd;
	struct undo *undos; /* their texts are the journal's */
	unsigned count, room, stale;
};

static const char *const kinds[] = {
	[UNDO_FILE] = "file",
	[UNDO_SLICE] = "slice",
	[UNDO_AFFINITY] = "affinity",
	[UNDO_MOVE] = "move",
	[UNDO_RMDIR] = "rmdir",
};
#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

/* ---- texts ---- */

static bool is_plain(char letter)
{
	return letter > ' ' && letter < 0x7f && letter != '%';
}

static void put_text(FILE *file, const char *text)
{
	for (; *text; text++) {
		if (is_plain(*text))
			fputc(*text, file);
		else
			fprintf(file, "%%%02x", (unsigned char)*text);
	}
}

static void put_line(FILE *file, const char *kind, const char *where, const char *value)
{
	fprintf(file, "%s ", kind);
	put_text(file, where);
	fputc(' ', file);
	put_text(file, value ? value : "");
	fputc('\n', file);
}

static int digit(char letter)
{
	const char *digits = "0123456789abcdef", *at = letter ? strchr(digits, letter) : NULL;

	return at ? (int)(at - digits) : -1;
}

/* In place. False: it is none of put_text()'s. */
static bool take_text(char *text)
{
	char *to = text;

	for (; *text; text++) {
		if (*text == '%') {
			int high = digit(text[1]), low = high < 0 ? -1 : digit(text[2]);

			if (low < 0 || high + low == 0)
				return false;
			*to++ = (char)(high * 16 + low);
			text += 2;
		} else {
			*to++ = *text;
		}
	}
	*to = 0;
	return true;
}

/* ---- what is noted ---- */

static void free_undo(const struct undo *undo)
{
	free((char *)(uintptr_t)undo->where);
	free((char *)(uintptr_t)undo->value);
}

static bool is_noted(const struct journal *journal, const struct undo *undo)
{
	for (unsigned i = 0; i < journal->count; i++)
		if (journal->undos[i].kind == undo->kind &&
			strcmp(journal->undos[i].where, undo->where) == 0)
			return true;
	return false;
}

static int remember(struct journal *journal, const struct undo *undo)
{
	struct undo copy = {.kind = undo->kind, .where = strdup(undo->where)};

	if (journal->count == journal->room) {
		const unsigned room = journal->room ? journal->room * 2 : 32;
		struct undo *more = reallocarray(journal->undos, room, sizeof(*more));

		if (more) {
			journal->undos = more;
			journal->room = room;
		}
	}
	copy.value = strdup(undo->value ? undo->value : "");
	if (!copy.where || !copy.value || journal->count == journal->room) {
		free_undo(&copy);
		return -ENOMEM;
	}
	journal->undos[journal->count++] = copy;
	return 0;
}

/* How many there were. */
static unsigned drop(struct journal *journal, const char *where)
{
	unsigned kept = 0, dropped;

	for (unsigned i = 0; i < journal->count; i++) {
		if (strcmp(journal->undos[i].where, where) == 0)
			free_undo(&journal->undos[i]);
		else
			journal->undos[kept++] = journal->undos[i];
	}
	dropped = journal->count - kept;
	journal->count = kept;
	return dropped;
}

/* ---- the file ---- */

static int write_all(int fd, const char *text, size_t length)
{
	while (length) {
		ssize_t count = write(fd, text, length);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			return -errno;
		text += count;
		length -= (size_t)count;
	}
	return fdatasync(fd) < 0 ? -errno : 0;
}

/* Cut back to what it was when it cannot be written whole: half a line would spoil the next. */
static int append(struct journal *journal, const char *kind, const char *where, const char *value)
{
	_cleanup_free_ char *line = NULL;
	const off_t end = lseek(journal->fd, 0, SEEK_END);
	size_t length = 0;
	FILE *file = open_memstream(&line, &length);
	int ret;

	if (!file)
		return -ENOMEM;
	put_line(file, kind, where, value);
	if (fclose(file) != 0)
		return -ENOMEM;
	ret = write_all(journal->fd, line, length);
	if (ret < 0 && ftruncate(journal->fd, end) < 0)
		log_warning("%s: it cannot be cut back: %s", journal->path, strerror(errno));
	return ret;
}

static bool read_kind(const char *word, struct undo *undo)
{
	for (unsigned i = 0; i < KINDS; i++) {
		if (strcmp(word, kinds[i]) == 0) {
			undo->kind = i;
			return true;
		}
	}
	return false;
}

/* One line without its end. False: it makes no sense. */
static bool read_line(struct journal *journal, char *line)
{
	char *where = strchr(line, ' '), *value = where ? strchr(where + 1, ' ') : NULL;
	struct undo undo;

	if (!value || strchr(value + 1, ' '))
		return false;
	*where++ = 0;
	*value++ = 0;
	if (!*where || !take_text(where) || !take_text(value))
		return false;
	if (strcmp(line, FORGOTTEN) == 0) {
		journal->stale += drop(journal, where) + 1;
		return true;
	}
	undo.where = where;
	undo.value = value;
	if (!read_kind(line, &undo))
		return false;
	return is_noted(journal, &undo) || remember(journal, &undo) == 0;
}

/* Where the last whole line ends. */
static size_t read_lines(struct journal *journal, char *text)
{
	char *line = text, *end;
	unsigned number = 0;

	for (; (end = strchr(line, '\n')); line = end + 1) {
		*end = 0;
		number++;
		if (number == 1 && strncmp(line, FIRST_LINE, strlen(line)) == 0)
			continue;
		if (!read_line(journal, line))
			log_warning("%s: line %u makes no sense and is passed over: what it stood "
				    "for is not put back",
				journal->path, number);
	}
	return (size_t)(line - text);
}

static char *read_text(int fd, size_t size)
{
	char *text = malloc(size + 1);
	size_t count = 0;

	while (text && count < size) {
		ssize_t got = pread(fd, text + count, size - count, (off_t)count);

		if (got <= 0)
			break;
		count += (size_t)got;
	}
	if (text)
		text[count] = 0;
	return text;
}

static int begin_anew(struct journal *journal)
{
	if (ftruncate(journal->fd, 0) < 0)
		return -errno;
	return write_all(journal->fd, FIRST_LINE, strlen(FIRST_LINE));
}

static int read_file(struct journal *journal)
{
	_cleanup_free_ char *text = NULL;
	struct stat status;
	size_t whole;

	if (fstat(journal->fd, &status) < 0)
		return -errno;
	if (status.st_size > SIZE_MAX_B)
		return -EFBIG;
	text = read_text(journal->fd, (size_t)status.st_size);
	if (!text)
		return -ENOMEM;
	whole = read_lines(journal, text);
	if (whole == 0)
		return begin_anew(journal);
	return ftruncate(journal->fd, (off_t)whole) < 0 ? -errno : 0;
}

/* ---- opening ---- */

/* Its folder is made too, for its owner alone. */
static int open_file(const char *path, struct error *err)
{
	_cleanup_free_ char *folder = strdup(path);
	char *slash = folder ? strrchr(folder, '/') : NULL;
	int fd;

	if (slash && slash != folder) {
		*slash = 0;
		if (mkdir(folder, 0700) < 0 && errno != EEXIST)
			return error_errno(err, errno,
				"%s: no folder for the journal; run duetd as root", folder);
	}
	fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_errno(err, errno, "%s: no journal; run duetd as root", path);
	return fd;
}

/* Whether the locked file is still the one at @path: its owner may have replaced it meanwhile. */
static bool is_at(int fd, const char *path)
{
	struct stat ours, there;

	return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
	       ours.st_dev == there.st_dev;
}

static int open_locked(const char *path, struct error *err)
{
	for (;;) {
		_cleanup_close_ int fd = open_file(path, err);

		if (fd < 0)
			return fd;
		if (flock(fd, LOCK_EX | LOCK_NB) < 0)
			return error_set(err, errno,
				"%s: another duetd holds it; one is enough for a host: stop that "
				"one first (systemctl stop duetd)",
				path);
		if (is_at(fd, path))
			return steal_fd(&fd);
	}
}

int journal_open(struct journal **out, const char *path, struct error *err)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	int ret;

	if (!journal)
		return error_errno(err, ENOMEM, "%s", path);
	journal->path = strdup(path);
	journal->fd = open_locked(path, err);
	ret = journal->fd;
	if (ret >= 0) {
		ret = journal->path ? read_file(journal) : -ENOMEM;
		if (ret < 0)
			error_errno(err, -ret, "%s", path);
	}
	if (ret < 0) {
		journal_close(journal);
		return ret;
	}
	*out = journal;
	return 0;
}

/* ---- writing ---- */

int journal_note(struct journal *journal, const struct undo *undo, struct error *err)
{
	int ret;

	if (is_noted(journal, undo))
		return 0;
	ret = append(journal, kinds[undo->kind], undo->where, undo->value);
	if (ret == 0)
		ret = remember(journal, undo);
	if (ret < 0)
		return error_errno(err, -ret,
			"%s: what is to be put back cannot be noted, so nothing is changed",
			journal->path);
	return 0;
}

static char *whole_text(const struct journal *journal, size_t *length)
{
	char *text = NULL;
	FILE *file = open_memstream(&text, length);

	if (!file)
		return NULL;
	fputs(FIRST_LINE, file);
	for (unsigned i = 0; i < journal->count; i++)
		put_line(file, kinds[journal->undos[i].kind], journal->undos[i].where,
			journal->undos[i].value);
	fclose(file);
	return text;
}

/* Locked before it gets its name: there is no moment at which another could take it. */
static int write_anew(struct journal *journal, const char *beside)
{
	_cleanup_close_ int fd =
		open(beside, O_RDWR | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	_cleanup_free_ char *text = NULL;
	size_t length;

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	text = whole_text(journal, &length);
	if (!text || write_all(fd, text, length) < 0 || rename(beside, journal->path) < 0)
		return -EIO;
	close(journal->fd);
	journal->fd = steal_fd(&fd);
	journal->stale = 0;
	return 0;
}

void journal_forget(struct journal *journal, const char *where)
{
	_cleanup_free_ char *beside = NULL;
	const unsigned dropped = drop(journal, where);

	if (!dropped)
		return;
	/* Should it not be written, what ended is found to be gone when it is put back. */
	append(journal, FORGOTTEN, where, "");
	journal->stale += dropped + 1;
	if (journal->stale < journal->count + STALE_MAX)
		return;
	if (asprintf(&beside, "%s.new", journal->path) < 0)
		beside = NULL;
	if (beside && write_anew(journal, beside) < 0)
		log_warning("%s: it cannot be written anew and grows", journal->path);
}

void journal_undo(struct journal *journal, void (*put_back)(void *opaque, const struct undo *undo),
	void *opaque)
{
	for (unsigned i = journal->count; i-- > 0;) {
		put_back(opaque, &journal->undos[i]);
		free_undo(&journal->undos[i]);
	}
	journal->count = 0;
	journal->stale = 0;
	if (begin_anew(journal) < 0)
		log_warning("%s: it cannot be emptied: what was put back will be once more",
			journal->path);
}

void journal_close(struct journal *journal)
{
	if (!journal)
		return;
	if (journal->fd >= 0)
		close(journal->fd);
	for (unsigned i = 0; i < journal->count; i++)
		free_undo(&journal->undos[i]);
	free(journal->undos);
	free(journal->path);
	free(journal);
}
