/* The table of nodes: ids with a generation, so that a stale or invented id finds nothing. */
#include "gofer/server.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static struct node *slot_of(struct gofer_server *s, uint64_t id)
{
	uint32_t slot = (uint32_t)id, gen = (uint32_t)(id >> 32);

	if (slot >= s->nnodes || s->nodes[slot].kind == NODE_FREE || s->nodes[slot].gen != gen)
		return NULL;
	return &s->nodes[slot];
}

struct node *node_find(struct gofer_server *s, uint64_t id, enum node_kind kind)
{
	struct node *n = slot_of(s, id);

	return n && n->kind == kind ? n : NULL;
}

int node_find_writable(struct gofer_server *s, uint64_t id, struct node **out)
{
	struct node *n = node_find(s, id, NODE_PATH);

	if (!n)
		return -EBADF;
	if (s->attach[n->attach].readonly)
		return -EROFS;
	*out = n;
	return 0;
}

int node_find_dir(struct gofer_server *s, uint64_t id, bool writable, struct node **out)
{
	struct node *n = node_find(s, id, NODE_PATH);

	if (!n)
		return -EBADF;
	if (!S_ISDIR(n->type))
		return -ENOTDIR;
	if (writable && s->attach[n->attach].readonly)
		return -EROFS;
	*out = n;
	return 0;
}

int node_room(const struct gofer_server *s)
{
	return s->live < s->max_live ? 0 : -EMFILE;
}

static int grow(struct gofer_server *s)
{
	uint32_t want = s->nnodes ? s->nnodes * 2 : 64;
	struct node *p = realloc(s->nodes, want * sizeof(*p));

	if (!p)
		return -ENOMEM;
	s->nodes = p;
	for (uint32_t i = want; i-- > s->nnodes;) {
		p[i] = (struct node){
			.fd = -1, .gen = 1, .kind = NODE_FREE, .next_free = s->first_free};
		s->first_free = i;
	}
	s->nnodes = want;
	return 0;
}

int node_new(struct gofer_server *s, int fd, enum node_kind kind, uint32_t type, uint16_t attach,
	     uint64_t *id)
{
	int err = node_room(s);

	if (err)
		return err;
	if (s->first_free == NODE_NONE && (err = grow(s)))
		return err;
	uint32_t slot = s->first_free;
	struct node *n = &s->nodes[slot];
	s->first_free = n->next_free;
	n->fd = fd;
	n->kind = (uint8_t)kind;
	n->type = type;
	n->attach = attach;
	n->offset = 0;
	s->live++;
	*id = (uint64_t)n->gen << 32 | slot;
	return 0;
}

void node_close(struct gofer_server *s, uint64_t id)
{
	struct node *n = slot_of(s, id);

	if (!n)
		return;
	close(n->fd);
	n->fd = -1;
	n->kind = NODE_FREE;
	if (++n->gen == 0)
		n->gen = 1;
	n->next_free = s->first_free;
	s->first_free = (uint32_t)(n - s->nodes);
	s->live--;
}
