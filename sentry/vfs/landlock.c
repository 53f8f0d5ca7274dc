/* Landlock's rules about paths.  The order of the questions is Linux's, as errors depend on it. */
#include "sentry/vfs/landlock.h"

#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <sys/ioctl.h>

#include "sentry/vfs/internal.h"

#ifndef FS_IOC_GETFSUUID
#define FS_IOC_GETFSUUID _IOR(0x15, 0, uint8_t[17])
#endif
#ifndef FS_IOC_GETFSSYSFSPATH
#define FS_IOC_GETFSSYSFSPATH _IOR(0x15, 1, uint8_t[129])
#endif

/* ---- rules ---- */

static void object_get(void *object)
{
	dentry_get(object);
}

static void object_put(void *object)
{
	dentry_put(object);
}

const struct landlock_objects landlock_path_objects = {object_get, object_put};

static uint64_t key_of(const struct dentry *d)
{
	return (uintptr_t)dentry_inode(d);
}

int landlock_rule_add_path(struct landlock_ruleset *rs, struct path p, uint32_t access)
{
	struct inode *in = dentry_inode(p.dentry);

	if (!in || in->sb->pseudo)
		return -EBADFD;
	if (!inode_is_dir(in) && access & ~(uint32_t)LL_FS_FILE)
		return -EINVAL;
	/* What is not handled need not be allowed. */
	uint32_t handled = rs->handled.access[LANDLOCK_PATH];
	access |= LL_FS_ALL & ~(handled | LL_REFER);
	return landlock_rule_add(rs, LANDLOCK_PATH, key_of(p.dentry), access, p.dentry);
}

/* ---- walks up ---- */

/* From *p to what contains it; false: *p is the root of all.  A directory that was moved out of
 * what is mounted there counts as being in the root of the mount. */
static bool step_up(struct path *p) REQUIRES(lc_dcache)
{
	while (p->dentry == p->mnt->root) {
		if (!p->mnt->parent)
			return false;
		p->dentry = p->mnt->mountpoint;
		p->mnt = p->mnt->parent;
	}
	p->dentry = p->dentry->parent == p->dentry ? p->mnt->root : p->dentry->parent;
	return true;
}

/* A question about one place, or one half of a question about two. */
struct judgement {
	const struct landlock_domain *domain;
	uint32_t want;	 /* rights that are asked for */
	uint32_t looked; /* … and those whose rules are looked at: at least as many */
	bool allowed;
	struct landlock_denials denied;
};

static void look(struct judgement *j, const struct dentry *d)
{
	j->allowed = j->allowed ||
		     landlock_allow(j->domain, LANDLOCK_PATH, key_of(d), j->looked, &j->denied);
}

static bool judge_path(struct judgement *j, struct path p)
{
	if (!j->want || p.dentry->sb->pseudo)
		return true;
	mutex_lock(&dcache_lock, &lc_dcache);
	do
		look(j, p.dentry);
	while (!j->allowed && step_up(&p));
	mutex_unlock(&dcache_lock, &lc_dcache);
	return j->allowed;
}

/* Of `access`, what is denied for the path. */
static uint32_t denied_at(struct path p, uint32_t access, const struct cred *c)
{
	struct judgement j = {.domain = c->landlock};

	if (!j.domain)
		return 0;
	j.want = j.looked = landlock_denials_init(j.domain, LANDLOCK_PATH, access, &j.denied);
	if (judge_path(&j, p))
		return 0;
	for (uint32_t bit = 1; bit <= access; bit <<= 1)
		if (access & bit && !landlock_denies(&j.denied, bit))
			access &= ~bit;
	return access;
}

/* ---- simple questions ---- */

static bool is_device(const struct inode *in)
{
	return S_ISCHR(in->mode) || S_ISBLK(in->mode);
}

int landlock_may_open(struct path p, int flags, bool exec, const struct cred *c, uint16_t *denied)
{
	const struct inode *in = dentry_inode(p.dentry);
	uint32_t want = exec ? LL_EXECUTE : 0, later = LL_TRUNCATE;
	int mode = flags & O_ACCMODE;

	*denied = 0;
	if (!c->landlock)
		return 0;
	if (mode == O_RDONLY || mode == O_RDWR)
		want |= LL_READ_FILE;
	if (mode == O_WRONLY || mode == O_RDWR)
		want |= LL_WRITE_FILE;
	if (inode_is_dir(in) && want & LL_READ_FILE)
		want = LL_READ_DIR;
	if (is_device(in))
		later |= LL_IOCTL_DEV;
	uint32_t no = denied_at(p, want | later, c);
	if (no & want || (flags & O_TRUNC && S_ISREG(in->mode) && no & LL_TRUNCATE))
		return -EACCES;
	*denied = (uint16_t)no;
	return 0;
}

static uint32_t right_to_make(uint32_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFLNK:
		return LL_MAKE_SYM;
	case S_IFDIR:
		return LL_MAKE_DIR;
	case S_IFCHR:
		return LL_MAKE_CHAR;
	case S_IFBLK:
		return LL_MAKE_BLOCK;
	case S_IFIFO:
		return LL_MAKE_FIFO;
	case S_IFSOCK:
		return LL_MAKE_SOCK;
	default:
		return LL_MAKE_REG;
	}
}

int landlock_may_make(struct path dir, uint32_t type, const struct cred *c)
{
	return denied_at(dir, right_to_make(type), c) ? -EACCES : 0;
}

int landlock_may_remove(struct path dir, bool rmdir, const struct cred *c)
{
	return denied_at(dir, rmdir ? LL_REMOVE_DIR : LL_REMOVE_FILE, c) ? -EACCES : 0;
}

int landlock_may_truncate(struct path p, const struct cred *c)
{
	return denied_at(p, LL_TRUNCATE, c) ? -EACCES : 0;
}

int landlock_may_ioctl(const struct file *f, unsigned cmd)
{
	if (!(f->landlock_denied & LL_IOCTL_DEV))
		return 0;
	switch (cmd) {
	case FIOCLEX:
	case FIONCLEX:
	case FIONBIO:
	case FIOASYNC:
	case FIOQSIZE:
	case FIFREEZE:
	case FITHAW:
	case FS_IOC_FIEMAP:
	case FIGETBSZ:
	case FICLONE:
	case FICLONERANGE:
	case FIDEDUPERANGE:
	case FS_IOC_GETFSUUID:
	case FS_IOC_GETFSSYSFSPATH:
		return 0; /* the vfs's own, of any file */
	}
	return -EACCES;
}

int landlock_may_mount(const struct cred *c)
{
	return landlock_handled(c->landlock, LANDLOCK_PATH) ? -EPERM : 0;
}

/* ---- moving a file to another directory ---- */

/* The rights of a file itself, apart from those that its directories give. */
struct own_rights {
	bool there, is_dir;
	struct landlock_denials denied;
};

static void own_rights_init(struct own_rights *o, const struct landlock_domain *domain,
			    const struct dentry *d)
{
	uint32_t all = landlock_denials_init(domain, LANDLOCK_PATH, LL_FS_ALL, &o->denied);

	o->there = true;
	o->is_dir = inode_is_dir(dentry_inode(d));
	(void)landlock_allow(domain, LANDLOCK_PATH, key_of(d), all, &o->denied);
}

/*
 * Is what is denied to the file where it is, by its directory (`from`) and itself, denied where it
 * goes as well?
 */
static bool gains_nothing(const struct own_rights *file, const struct landlock_denials *from,
			  const struct landlock_denials *to)
{
	for (uint32_t i = 0; i < ARRAY_SIZE(to->layers); i++) {
		if (!file->is_dir && !(LL_FS_FILE & 1U << i))
			continue;
		if (from->layers[i] & file->denied.layers[i] & ~to->layers[i])
			return false;
	}
	return true;
}

/* Now only what is asked for counts. */
static void narrow(struct judgement *j)
{
	j->looked = j->want;
	for (uint32_t i = 0; i < ARRAY_SIZE(j->denied.layers); i++)
		if (!(j->want & 1U << i))
			j->denied.layers[i] = 0;
	j->allowed = j->allowed || !landlock_denies(&j->denied, j->want);
}

/* The way from a directory to the root of the mount.  True: all is allowed there. */
static bool climb_to_mount(struct judgement *j, const struct dentry *d, const struct dentry *top)
	REQUIRES(lc_dcache)
{
	j->looked = landlock_denials_init(j->domain, LANDLOCK_PATH, LL_FS_ALL, &j->denied);
	for (;; d = d->parent) {
		look(j, d);
		if (j->allowed || d == top || d->parent == d)
			break;
	}
	bool all = j->allowed;
	j->allowed = false;
	return all;
}

struct move {
	struct judgement from, to; /* of the two directories */
	struct own_rights file, other;
};

/* From the root of the mount on, which is common to both. */
static bool judge_both(struct move *m, struct path p) REQUIRES(lc_dcache)
{
	uint32_t handled = landlock_handled(m->from.domain, LANDLOCK_PATH);
	bool compare = true;

	m->from.looked = m->to.looked = handled;
	do {
		if (compare && gains_nothing(&m->file, &m->from.denied, &m->to.denied) &&
		    (!m->other.there || gains_nothing(&m->other, &m->to.denied, &m->from.denied))) {
			compare = false;
			narrow(&m->from);
			narrow(&m->to);
			if (m->from.allowed && m->to.allowed)
				break;
		}
		look(&m->from, p.dentry);
		look(&m->to, p.dentry);
	} while (!(m->from.allowed && m->to.allowed) && step_up(&p));
	return m->from.allowed && m->to.allowed;
}

/* from.want, to.want: the rights to take away and to put there, besides LL_REFER. */
static int judge_move(struct move *m, struct path olddir, struct path newdir)
{
	struct path top = {newdir.mnt, newdir.mnt->root};

	m->from.want |= LL_REFER;
	m->to.want |= LL_REFER;
	mutex_lock(&dcache_lock, &lc_dcache);
	bool from_all = climb_to_mount(&m->from, olddir.dentry, top.dentry);
	bool to_all = climb_to_mount(&m->to, newdir.dentry, top.dentry);
	bool ok = (from_all && to_all) || judge_both(m, top);
	mutex_unlock(&dcache_lock, &lc_dcache);
	if (ok)
		return 0;
	bool acces = landlock_denies(&m->from.denied, m->from.want & ~(uint32_t)LL_REFER) ||
		     landlock_denies(&m->to.denied, m->to.want & ~(uint32_t)LL_REFER);
	return acces ? -EACCES : -EXDEV;
}

static uint32_t right_to_remove(const struct dentry *d)
{
	const struct inode *in = dentry_inode(d);

	return !in ? 0 : inode_is_dir(in) ? LL_REMOVE_DIR : LL_REMOVE_FILE;
}

static void move_init(struct move *m, const struct cred *c, const struct dentry *file)
{
	*m = (struct move){.from.domain = c->landlock, .to.domain = c->landlock};
	m->to.want = right_to_make(dentry_inode(file)->mode);
	own_rights_init(&m->file, c->landlock, file);
}

int landlock_may_link(struct path old, struct path dir, const struct cred *c)
{
	struct move m;

	if (!landlock_handled(c->landlock, LANDLOCK_PATH))
		return 0;
	move_init(&m, c, old.dentry);
	mutex_lock(&dcache_lock, &lc_dcache);
	/* A file that is mounted by itself has no directory there. */
	struct dentry *from = old.dentry == old.mnt->root ? old.dentry : old.dentry->parent;
	struct path olddir = {old.mnt, dentry_get_locked(from)};
	mutex_unlock(&dcache_lock, &lc_dcache);
	int err;
	if (olddir.dentry == dir.dentry)
		err = denied_at(dir, m.to.want, c) ? -EACCES : 0;
	else
		err = judge_move(&m, olddir, dir);
	dentry_put(olddir.dentry);
	return err;
}

int landlock_may_rename(struct path olddir, struct dentry *oldd, struct path newdir,
			struct dentry *newd, bool exchange, const struct cred *c)
{
	struct move m;

	if (!landlock_handled(c->landlock, LANDLOCK_PATH))
		return 0;
	move_init(&m, c, oldd);
	if (exchange) {
		m.from.want = right_to_make(dentry_inode(newd)->mode);
		own_rights_init(&m.other, c->landlock, newd);
	}
	m.from.want |= right_to_remove(oldd);
	m.to.want |= right_to_remove(newd);
	if (olddir.dentry == newdir.dentry)
		return denied_at(newdir, m.from.want | m.to.want, c) ? -EACCES : 0;
	return judge_move(&m, olddir, newdir);
}
