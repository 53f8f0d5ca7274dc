/*
 * Intrusive red-black tree.  The owner walks down by itself to find the place of a new node, then
 * calls rb_insert().  `augment`, when given, is called for every node whose subtree changed, from
 * the leaf upwards, so that trees may keep a maximum (gap searches).  No locking.
 */
#pragma once

#include <stdbool.h>

#include "sentry/lib/compiler.h"

struct rb_node {
	struct rb_node *parent, *left, *right;
	bool red;
};

struct rb_root {
	struct rb_node *node;
	void (*augment)(struct rb_node *n); /* NULL: none */
};

/* Links `n` at *link (a null child pointer of `parent`, or &root->node) and rebalances. */
void rb_insert(struct rb_root *root, struct rb_node *n, struct rb_node *parent,
	       struct rb_node **link);
void rb_erase(struct rb_root *root, struct rb_node *n);
/* Re-runs augment from n up to the root, after n's own value changed. */
void rb_augment_path(struct rb_root *root, struct rb_node *n);

struct rb_node *rb_first(const struct rb_root *root);
struct rb_node *rb_last(const struct rb_root *root);
struct rb_node *rb_next(const struct rb_node *n);
struct rb_node *rb_prev(const struct rb_node *n);

#define rb_entry(p, type, member) container_of(p, type, member)
#define rb_for_each(pos, root) for (pos = rb_first(root); pos; pos = rb_next(pos))
