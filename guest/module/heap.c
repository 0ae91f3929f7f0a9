// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/duet-heap: memory that fork() copies in bulk, as it is at one instant.
 *
 * A heap is what one process has mapped of one open file: pages by their offset in the file. Each
 * mapping gets offsets that no other has, so a page lies in one mapping at most. When a process
 * forks, the first of the child's mappings to be opened brings the whole heap (open_in_child()): the
 * child's pages are allocated, the parent's mappings write-protected (the instant), the pages
 * copied. The parent's mmap lock is held for writing all the while, so writers wait in their fault.
 *
 * open() of a mapping cannot fail. When a copy cannot be made, the child's heap is dead: any access
 * is SIGBUS, and no page of it shows anything. A child that only calls exec() does not notice.
 *
 * What goes past page tables is not held up: a transfer from a device into pages that were pinned
 * before the fork may come between two of the copied pages.
 */
#include "heap.h"

#include "../../include/duet/heap_device.h"

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>

/* Of the offsets in a file, in pages: in bytes they fit into as many bits. */
#define OFFSETS_MAX (ULONG_MAX >> PAGE_SHIFT)

static bool heap_protect = true;
module_param(heap_protect, bool, 0600);
MODULE_PARM_DESC(heap_protect,
		 "write-protect the parent while its heap is copied; off: copies are torn (for tests)");

/* An open file. Its mappings are in an address space of their own, for protect(). */
struct heap_file {
	struct address_space mapping;
	struct duet *duet;
	struct mutex lock; /* of what follows */
	struct list_head heaps;
	pgoff_t next; /* offset of the next mapping */
};

struct heap {
	struct kref mappings;
	struct list_head list;
	struct heap_file *file;
	struct mm_struct *mm; /* whose it is; not held: the mappings go before it does */
	struct xarray pages;
	bool dead;
	bool tight; /* a child's: there is no room to map its pages ahead */
};

/* Where not even a struct heap could be had. */
static struct heap nowhere = {
	.mappings = KREF_INIT(1),
	.pages = XARRAY_INIT(nowhere.pages, 0),
	.dead = true,
};

/* Of the last fork, for who wants to know where its time goes. */
static struct {
	spinlock_t lock;
	u64 pages, allocate_ns, protect_ns, copy_ns, unprotect_ns, map_ns;
} last = { .lock = __SPIN_LOCK_UNLOCKED(last.lock) };

static const struct vm_operations_struct heap_vm_ops;

static struct heap *heap_of(struct vm_area_struct *vma)
{
	return vma->vm_ops == &heap_vm_ops ? vma->vm_private_data : NULL;
}

static struct heap *heap_new(struct heap_file *file, struct mm_struct *mm, gfp_t gfp)
{
	struct heap *heap = kzalloc(sizeof(*heap), gfp);

	if (!heap)
		return NULL;
	kref_init(&heap->mappings);
	xa_init_flags(&heap->pages, XA_FLAGS_ACCOUNT);
	heap->file = file;
	heap->mm = mm;
	list_add(&heap->list, &file->heaps);
	return heap;
}

static void heap_free(struct kref *kref)
{
	struct heap *heap = container_of(kref, struct heap, mappings);

	list_del(&heap->list);
	mutex_unlock(&heap->file->lock);
	heap_free_pages(&heap->pages, 0, ULONG_MAX);
	xa_destroy(&heap->pages);
	kfree(heap);
}

/* @nowhere holds one reference to itself. */
static void never_free(struct kref *kref)
{
}

static void heap_put(struct heap *heap)
{
	if (heap == &nowhere)
		kref_put(&heap->mappings, never_free);
	else
		kref_put_mutex(&heap->mappings, heap_free, &heap->file->lock);
}

/* @dead: also one that is. file->lock is held. */
static struct heap *heap_find(struct heap_file *file, struct mm_struct *mm, bool dead)
{
	struct heap *heap;

	list_for_each_entry(heap, &file->heaps, list)
		if (heap->mm == mm && (dead || !heap->dead))
			return heap;
	return NULL;
}

/* Fork */

/* Pages that a fork needs besides: page tables of all that is not a heap, the child's stack in the
 * kernel, and so on. */
#define FORK_PAGES 32

/* What follows asks for memory as ever, and the OOM killer comes where there is none. Page tables for
 * the copied pages are two to a leaf, or as many as the mappings are long. */
static int leave_room(struct heap *child, unsigned long leaves, unsigned long longest)
{
	child->tight = !heap_room(FORK_PAGES + min(2 * leaves, longest));
	return child->tight && !heap_room(FORK_PAGES) ? -ENOMEM : 0;
}

static int allocate_all(struct heap *parent, struct heap *child)
{
	struct heap_pool pool = { 0 };
	struct vm_area_struct *vma;
	unsigned long longest = 0;
	int ret = 0;

	VMA_ITERATOR(vmi, parent->mm, 0);

	for_each_vma(vmi, vma) {
		if (heap_of(vma) != parent)
			continue;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
		/* Faults under the lock of one mapping alone, which the mmap lock does not keep
		 * out. */
		vma_start_write(vma);
#endif
		if (!(vma->vm_flags & VM_DONTCOPY))
			ret = heap_pages_like(&child->pages, &parent->pages, vma->vm_pgoff,
					      vma->vm_pgoff + vma_pages(vma), &pool);
		if (ret)
			break;
		longest += vma_pages(vma) / PTRS_PER_PTE + 4;
	}
	heap_pool_drain(&pool);
	return ret ?: leave_room(child, pool.leaves, longest);
}

static int map_leaf(struct vm_area_struct *vma, struct heap_leaf *leaf, unsigned long index)
{
	unsigned long address, left;
	unsigned int i, end, next;
	int ret = 0;

	heap_slots(index, vma->vm_pgoff, vma->vm_pgoff + vma_pages(vma), &i, &end);
	for (; i < end && !ret; i = next) {
		for (next = i; next < end && leaf->page[next]; next++)
			;
		left = next - i;
		address = vma->vm_start + ((index * HEAP_LEAF + i - vma->vm_pgoff) << PAGE_SHIFT);
		if (left)
			ret = vm_insert_pages(vma, address, leaf->page + i, &left);
		else
			next++;
	}
	return ret;
}

/* Spares the child its faults; what is not mapped here comes by heap_fault(). */
static void map_pages(struct heap *heap, struct vm_area_struct *vma)
{
	unsigned long first = vma->vm_pgoff, last = first + vma_pages(vma) - 1, index;
	struct heap_leaf *leaf;

	xa_for_each_range(&heap->pages, index, leaf, first / HEAP_LEAF, last / HEAP_LEAF) {
		if (map_leaf(vma, leaf, index))
			break;
		cond_resched();
	}
	/* With it the next fork would share what is mapped with the grandchild. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_clear(vma, VM_MIXEDMAP);
#else
	vma->vm_flags &= ~VM_MIXEDMAP;
#endif
}

/*
 * The instant of a fork. A kernel without the helper (Debian's for clouds has no driver that wants
 * it) takes the pages out instead: whoever touches one waits for the fork, as a writer does else.
 */
#if IS_ENABLED(CONFIG_MAPPING_DIRTY_HELPERS)

static void protect(struct heap_file *file)
{
	wp_shared_mapping_range(&file->mapping, 0, file->next);
}

static int make_writable(pte_t *pte, unsigned long address, void *data)
{
	pte_t entry = *pte;

	if (!pte_present(entry) || pte_protnone(entry) || pte_write(entry))
		return 0;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 6, 0)
	set_pte(pte, pte_mkwrite_novma(entry));
#else
	set_pte(pte, pte_mkwrite(entry));
#endif
	return 0;
}

static void unprotect_vma(struct heap *heap, struct vm_area_struct *vma)
{
	if (pgprot_val(vma->vm_page_prot) & _PAGE_RW)
		apply_to_existing_page_range(heap->mm, vma->vm_start, vma->vm_end - vma->vm_start,
					     make_writable, NULL);
}

#else

static void protect(struct heap_file *file)
{
	unmap_mapping_range(&file->mapping, 0, (loff_t)file->next << PAGE_SHIFT, 0);
}

static void unprotect_vma(struct heap *heap, struct vm_area_struct *vma)
{
	map_pages(heap, vma);
}

#endif

/* A fault for each page is spared thus; whom it does not reach takes that fault. */
static void unprotect(struct heap *heap)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, heap->mm, 0);

	for_each_vma(vmi, vma)
		if (heap_of(vma) == heap)
			unprotect_vma(heap, vma);
}

static int copy_heap(struct heap *parent, struct heap *child)
{
	struct heap_file *file = parent->file;
	u64 start = ktime_get_ns(), allocated, protected, copied;
	u64 before = atomic64_read(&heap_counts.pages_by_host) +
		     atomic64_read(&heap_counts.pages_by_guest);
	int ret = allocate_all(parent, child);

	if (ret)
		return ret;
	allocated = ktime_get_ns();
	/* The instant: no CPU can write to a page of the parent's from here on. */
	if (READ_ONCE(heap_protect))
		protect(file);
	protected = ktime_get_ns();
	ret = heap_copy_pages(file->duet, &parent->pages, &child->pages);
	copied = ktime_get_ns();
	unprotect(parent);

	spin_lock(&last.lock);
	last.pages = atomic64_read(&heap_counts.pages_by_host) +
		     atomic64_read(&heap_counts.pages_by_guest) - before;
	last.allocate_ns = allocated - start;
	last.protect_ns = protected - allocated;
	last.copy_ns = copied - protected;
	last.unprotect_ns = ktime_get_ns() - copied;
	last.map_ns = 0;
	spin_unlock(&last.lock);
	return ret;
}

static struct heap *fork_heap(struct heap *parent, struct mm_struct *mm)
{
	struct heap *child = heap_new(parent->file, mm, HEAP_FORK_GFP);
	int ret = child ? 0 : -ENOMEM;

	atomic64_inc(&heap_counts.forks);
	/* Whoever copies a process that is not its own holds other locks than these. */
	if (!ret && parent->mm != current->mm)
		ret = -EPERM;
	if (!ret)
		ret = copy_heap(parent, child);
	if (!ret)
		return child;
	atomic64_inc(&heap_counts.failed);
	/* Who is being killed has no child. */
	if (ret != -EINTR)
		pr_warn_ratelimited("duet: %s (%d): its heap is not copied (%d); the child gets SIGBUS there\n",
				    current->comm, task_pid_nr(current), ret);
	if (!child) {
		kref_get(&nowhere.mappings);
		return &nowhere;
	}
	child->dead = true;
	heap_free_pages(&child->pages, 0, ULONG_MAX);
	return child;
}

/* A mapping of another process's heap in a child that is being made; both mmap locks are held for
 * writing. */
static void open_in_child(struct heap *parent, struct vm_area_struct *vma)
{
	struct heap_file *file = parent->file;
	struct heap *child;
	u64 start;

	mutex_lock(&file->lock);
	child = heap_find(file, vma->vm_mm, true);
	if (child)
		kref_get(&child->mappings);
	else
		child = fork_heap(parent, vma->vm_mm);
	mutex_unlock(&file->lock);
	vma->vm_private_data = child;
	if (child->dead || child->tight)
		return;
	start = ktime_get_ns();
	map_pages(child, vma);
	spin_lock(&last.lock);
	last.map_ns += ktime_get_ns() - start;
	spin_unlock(&last.lock);
}

/* Mappings */

static void heap_open(struct vm_area_struct *vma)
{
	struct heap *heap = vma->vm_private_data;

	/* A part that was split off, or a mapping that moves. */
	if (heap->mm == vma->vm_mm) {
		kref_get(&heap->mappings);
		return;
	}
	if (!heap->dead) {
		open_in_child(heap, vma);
		return;
	}
	/* A heap does not outlive its process: heap_find() would take it for that of the next one
	 * at the same address. */
	kref_get(&nowhere.mappings);
	vma->vm_private_data = &nowhere;
}

/* The first offset from @at to @end that is another mapping's than @but's, and where that one is
 * over; @end without one. */
static unsigned long first_covered(struct heap *heap, struct vm_area_struct *but, unsigned long at,
				   unsigned long end, unsigned long *over)
{
	struct vm_area_struct *vma;
	unsigned long found = end;

	VMA_ITERATOR(vmi, heap->mm, 0);

	*over = end;
	for_each_vma(vmi, vma) {
		unsigned long first = max(vma->vm_pgoff, at), last = vma->vm_pgoff + vma_pages(vma);

		if (vma == but || heap_of(vma) != heap || last <= at || first >= found)
			continue;
		found = first;
		*over = last;
	}
	return found;
}

/* One that moved, or was to be split and was not, leaves its pages to another mapping. */
static void free_pages_of(struct heap *heap, struct vm_area_struct *vma)
{
	unsigned long at = vma->vm_pgoff, end = at + vma_pages(vma), covered, over;

	while (at < end) {
		covered = first_covered(heap, vma, at, end, &over);
		heap_free_pages(&heap->pages, at, covered);
		at = over;
	}
	/* Of as many mappings as a process may have, each one looks at all. */
	cond_resched();
}

static void heap_close(struct vm_area_struct *vma)
{
	struct heap *heap = vma->vm_private_data;

	/* At a process's end all pages go with the last mapping. */
	if (!heap->dead && atomic_read(&vma->vm_mm->mm_users))
		free_pages_of(heap, vma);
	heap_put(heap);
}

static vm_fault_t heap_fault(struct vm_fault *vmf)
{
	struct heap *heap = vmf->vma->vm_private_data;
	struct page *page, *there;

	if (heap->dead)
		return VM_FAULT_SIGBUS;
	there = heap_page(&heap->pages, vmf->pgoff);
	if (!there) {
		page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!page)
			return VM_FAULT_OOM;
		there = heap_add_page(&heap->pages, vmf->pgoff, page);
		if (there != page)
			__free_page(page);
		if (!there)
			return VM_FAULT_OOM;
	}
	vmf->page = there;
	return 0;
}

static const struct vm_operations_struct heap_vm_ops = {
	.open = heap_open,
	.close = heap_close,
	.fault = heap_fault,
};

/* The file */

/* The heap of a mapping that is being made, with a reference for it; null: no memory, or no offsets
 * are left. file->lock is held. */
static struct heap *heap_for(struct heap_file *file, struct vm_area_struct *vma)
{
	struct heap *heap;

	if (vma_pages(vma) > OFFSETS_MAX - file->next)
		return NULL;
	heap = heap_find(file, vma->vm_mm, false);
	if (!heap)
		return heap_new(file, vma->vm_mm, GFP_KERNEL_ACCOUNT);
	kref_get(&heap->mappings);
	return heap;
}

static int heap_mmap(struct file *filp, struct vm_area_struct *vma)
{
	struct heap_file *file = filp->private_data;
	struct heap *heap;
	int ret = 0;

	if (!(vma->vm_flags & VM_SHARED) || vma->vm_pgoff)
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EACCES;
	mutex_lock(&file->lock);
	heap = heap_for(file, vma);
	if (!heap) {
		ret = -ENOMEM;
	} else {
		vma->vm_pgoff = file->next;
		file->next += vma_pages(vma);
		vma->vm_private_data = heap;
		vma->vm_ops = &heap_vm_ops;
	}
	mutex_unlock(&file->lock);
	/* DONTEXPAND: neither grown nor doubled by mremap(), and never locked. */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_mod(vma, VM_DONTEXPAND, VM_MAYEXEC);
#else
	vma->vm_flags = (vma->vm_flags | VM_DONTEXPAND) & ~VM_MAYEXEC;
#endif
	return ret;
}

static void zap(struct vm_area_struct *vma, unsigned long start, unsigned long length)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	zap_page_range_single(vma, start, length, NULL);
#else
	zap_page_range(vma, start, length);
#endif
}

/* The mappings from @start to @end are without a hole, and all of them this file's. */
static bool all_mapped(struct heap_file *file, unsigned long start, unsigned long end)
{
	struct vm_area_struct *vma;
	unsigned long at = start;

	VMA_ITERATOR(vmi, current->mm, start);

	for_each_vma_range(vmi, vma, end) {
		struct heap *heap = heap_of(vma);

		if (!heap || heap->file != file || vma->vm_start > at)
			return false;
		at = vma->vm_end;
	}
	return at >= end;
}

static void free_range(unsigned long start, unsigned long end)
{
	struct vm_area_struct *vma;

	VMA_ITERATOR(vmi, current->mm, start);

	for_each_vma_range(vmi, vma, end) {
		unsigned long from = max(start, vma->vm_start), to = min(end, vma->vm_end);
		unsigned long first = vma->vm_pgoff + ((from - vma->vm_start) >> PAGE_SHIFT);

		zap(vma, from, to - from);
		heap_free_pages(&heap_of(vma)->pages, first,
				first + ((to - from) >> PAGE_SHIFT));
	}
}

static long heap_ioctl(struct file *filp, unsigned int command, unsigned long argument)
{
	struct duet_heap_range range;
	u64 end;
	int ret = -EINVAL;

	if (command != DUET_HEAP_FREE)
		return -ENOTTY;
	if (copy_from_user(&range, (void __user *)argument, sizeof(range)))
		return -EFAULT;
	if (!range.length || !PAGE_ALIGNED(range.address | range.length) ||
	    check_add_overflow(range.address, range.length, &end) || end > TASK_SIZE_MAX)
		return -EINVAL;
	/* For writing: no fault is under way that would bring back a page as it goes. */
	if (mmap_write_lock_killable(current->mm))
		return -EINTR;
	if (all_mapped(filp->private_data, range.address, end)) {
		free_range(range.address, end);
		ret = 0;
	}
	mmap_write_unlock(current->mm);
	return ret;
}

static int heap_open_file(struct inode *inode, struct file *filp)
{
	struct heap_file *file = kzalloc(sizeof(*file), GFP_KERNEL_ACCOUNT);

	if (!file)
		return -ENOMEM;
	file->duet = duet_get();
	if (!file->duet) {
		kfree(file);
		return -ENODEV;
	}
	mutex_init(&file->lock);
	INIT_LIST_HEAD(&file->heaps);
	address_space_init_once(&file->mapping);
	file->mapping.host = inode;
	file->mapping.a_ops = inode->i_mapping->a_ops;
	filp->f_mapping = &file->mapping;
	filp->private_data = file;
	return 0;
}

static int heap_release(struct inode *inode, struct file *filp)
{
	struct heap_file *file = filp->private_data;

	duet_put(file->duet);
	kfree(file);
	return 0;
}

static const struct file_operations heap_fops = {
	.owner = THIS_MODULE,
	.open = heap_open_file,
	.release = heap_release,
	.mmap = heap_mmap,
	.unlocked_ioctl = heap_ioctl,
	.llseek = noop_llseek,
};

/* /sys/class/misc/duet-heap */

#define COUNT(name)                                                                              \
	static ssize_t name##_show(struct device *dev, struct device_attribute *attr, char *buf) \
	{                                                                                        \
		return sysfs_emit(buf, "%lld\n", atomic64_read(&heap_counts.name));              \
	}                                                                                        \
	static DEVICE_ATTR_RO(name)

COUNT(forks);
COUNT(failed);
COUNT(pages_by_host);
COUNT(pages_by_guest);
COUNT(fallbacks);

static ssize_t last_fork_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	ssize_t length;

	spin_lock(&last.lock);
	length = sysfs_emit(buf,
			    "pages %llu\nallocate_ns %llu\nprotect_ns %llu\ncopy_ns %llu\n"
			    "unprotect_ns %llu\nmap_ns %llu\n",
			    last.pages, last.allocate_ns, last.protect_ns, last.copy_ns,
			    last.unprotect_ns, last.map_ns);
	spin_unlock(&last.lock);
	return length;
}
static DEVICE_ATTR_RO(last_fork);

static struct attribute *heap_attrs[] = {
	&dev_attr_forks.attr,	       &dev_attr_failed.attr,	 &dev_attr_pages_by_host.attr,
	&dev_attr_pages_by_guest.attr, &dev_attr_fallbacks.attr, &dev_attr_last_fork.attr,
	NULL,
};
ATTRIBUTE_GROUPS(heap);

static struct miscdevice heap_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "duet-heap",
	.fops = &heap_fops,
	.mode = 0666,
	.groups = heap_groups,
};

static int heap_start(struct duet *duet)
{
	return misc_register(&heap_device);
}

static void heap_stop(struct duet *duet)
{
	misc_deregister(&heap_device);
}

const struct duet_part duet_heap = {
	.name = "heap",
	.feature = DUET_COOP_F_COPY,
	.start = heap_start,
	.stop = heap_stop,
	.selftest = heap_copy_selftest,
};
