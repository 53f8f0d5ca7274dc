#include "sentry/lib/rbtree.h"

#include <stddef.h>

static void augment(struct rb_root *root, struct rb_node *n)
{
	if (root->augment)
		root->augment(n);
}

void rb_augment_path(struct rb_root *root, struct rb_node *n)
{
	if (root->augment)
		for (; n; n = n->parent)
			root->augment(n);
}

static bool is_red(const struct rb_node *n)
{
	return n && n->red;
}

/* Makes whatever points down to `old` point to `new` (which may be NULL). */
static void replace_child(struct rb_root *root, struct rb_node *parent, struct rb_node *old,
			  struct rb_node *new)
{
	if (!parent)
		root->node = new;
	else if (parent->left == old)
		parent->left = new;
	else
		parent->right = new;
	if (new)
		new->parent = parent;
}

/*
 * Rotates n down and its right (left) child up.  The subtree holds the same nodes before and
 * after, so only the two that moved need their augmented value again, the lower one first.
 */
static void rotate_left(struct rb_root *root, struct rb_node *n)
{
	struct rb_node *up = n->right;

	replace_child(root, n->parent, n, up);
	n->right = up->left;
	if (n->right)
		n->right->parent = n;
	up->left = n;
	n->parent = up;
	augment(root, n);
	augment(root, up);
}

static void rotate_right(struct rb_root *root, struct rb_node *n)
{
	struct rb_node *up = n->left;

	replace_child(root, n->parent, n, up);
	n->left = up->right;
	if (n->left)
		n->left->parent = n;
	up->right = n;
	n->parent = up;
	augment(root, n);
	augment(root, up);
}

/* n is red and may have a red parent: the only rule that can be broken. */
static void insert_fixup(struct rb_root *root, struct rb_node *n)
{
	struct rb_node *p;

	while ((p = n->parent) && p->red) {
		struct rb_node *g = p->parent; /* exists: a red node is never the root */
		bool left = g->left == p;
		struct rb_node *uncle = left ? g->right : g->left;

		if (is_red(uncle)) {
			p->red = uncle->red = false;
			g->red = true;
			n = g;
			continue;
		}
		if (left) {
			if (n == p->right) {
				rotate_left(root, p);
				p = n;
			}
			rotate_right(root, g);
		} else {
			if (n == p->left) {
				rotate_right(root, p);
				p = n;
			}
			rotate_left(root, g);
		}
		p->red = false;
		g->red = true;
		break;
	}
	root->node->red = false;
}

void rb_insert(struct rb_root *root, struct rb_node *n, struct rb_node *parent,
	       struct rb_node **link)
{
	n->parent = parent;
	n->left = n->right = NULL;
	n->red = true;
	*link = n;
	rb_augment_path(root, n);
	insert_fixup(root, n);
}

/*
 * The subtree at n (NULL: empty), a child of p, lacks one black node.  `n` is passed with its
 * parent because it may be NULL.
 */
static void erase_fixup(struct rb_root *root, struct rb_node *n, struct rb_node *p)
{
	while (p && !is_red(n)) {
		bool left = p->left == n;
		/* Exists: the other side has at least the black node that this one lacks. */
		struct rb_node *sib = left ? p->right : p->left;

		if (sib->red) {
			sib->red = false;
			p->red = true;
			if (left)
				rotate_left(root, p);
			else
				rotate_right(root, p);
			sib = left ? p->right : p->left;
		}
		if (!is_red(sib->left) && !is_red(sib->right)) {
			sib->red = true;
			n = p;
			p = n->parent;
			continue;
		}
		if (left) {
			if (!is_red(sib->right)) {
				sib->left->red = false;
				sib->red = true;
				rotate_right(root, sib);
				sib = p->right;
			}
			sib->right->red = false;
		} else {
			if (!is_red(sib->left)) {
				sib->right->red = false;
				sib->red = true;
				rotate_left(root, sib);
				sib = p->left;
			}
			sib->left->red = false;
		}
		sib->red = p->red;
		p->red = false;
		if (left)
			rotate_left(root, p);
		else
			rotate_right(root, p);
		return;
	}
	if (n)
		n->red = false;
}

void rb_erase(struct rb_root *root, struct rb_node *n)
{
	struct rb_node *child, *parent; /* what moved up, and where it hangs now */
	bool removed_red;

	if (n->left && n->right) {
		/* The successor, which has no left child, takes n's place and colour. */
		struct rb_node *s = n->right;
		while (s->left)
			s = s->left;
		child = s->right;
		parent = s->parent == n ? s : s->parent;
		removed_red = s->red;

		if (s->parent != n) {
			replace_child(root, s->parent, s, child);
			s->right = n->right;
			s->right->parent = s;
		}
		s->left = n->left;
		s->left->parent = s;
		s->red = n->red;
		replace_child(root, n->parent, n, s);
	} else {
		child = n->left ? n->left : n->right;
		parent = n->parent;
		removed_red = n->red;
		replace_child(root, parent, n, child);
	}
	rb_augment_path(root, parent);
	if (!removed_red)
		erase_fixup(root, child, parent);
}

struct rb_node *rb_first(const struct rb_root *root)
{
	struct rb_node *n = root->node;

	while (n && n->left)
		n = n->left;
	return n;
}

struct rb_node *rb_last(const struct rb_root *root)
{
	struct rb_node *n = root->node;

	while (n && n->right)
		n = n->right;
	return n;
}

struct rb_node *rb_next(const struct rb_node *n)
{
	if (n->right) {
		n = n->right;
		while (n->left)
			n = n->left;
		return (struct rb_node *)n;
	}
	while (n->parent && n->parent->right == n)
		n = n->parent;
	return n->parent;
}

struct rb_node *rb_prev(const struct rb_node *n)
{
	if (n->left) {
		n = n->left;
		while (n->right)
			n = n->right;
		return (struct rb_node *)n;
	}
	while (n->parent && n->parent->left == n)
		n = n->parent;
	return n->parent;
}
