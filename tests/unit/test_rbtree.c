#include "sentry/lib/rbtree.h"

#include <check.h>
#include <stdlib.h>

struct item {
	struct rb_node node;
	unsigned key;
	unsigned value, max; /* augmented: the largest value of the subtree */
	bool linked;
};

static void item_augment(struct rb_node *n)
{
	struct item *it = rb_entry(n, struct item, node);

	it->max = it->value;
	if (n->left)
		it->max = MAX(it->max, rb_entry(n->left, struct item, node)->max);
	if (n->right)
		it->max = MAX(it->max, rb_entry(n->right, struct item, node)->max);
}

static void item_insert(struct rb_root *root, struct item *it)
{
	struct rb_node **link = &root->node, *parent = NULL;

	while (*link) {
		parent = *link;
		link = it->key < rb_entry(parent, struct item, node)->key ? &parent->left
									  : &parent->right;
	}
	rb_insert(root, &it->node, parent, link);
	it->linked = true;
}

/* Checks the subtree's rules and returns its black height. */
static int check_subtree(const struct rb_node *n, const struct rb_node *parent, size_t *count)
{
	if (!n)
		return 1;
	const struct item *it = rb_entry(n, struct item, node);
	ck_assert_ptr_eq(n->parent, parent);
	ck_assert(!(n->red && parent && parent->red));
	int l = check_subtree(n->left, n, count);
	int r = check_subtree(n->right, n, count);
	ck_assert_int_eq(l, r);

	unsigned max = it->value;
	if (n->left) {
		const struct item *c = rb_entry(n->left, struct item, node);
		ck_assert_uint_lt(c->key, it->key);
		max = MAX(max, c->max);
	}
	if (n->right) {
		const struct item *c = rb_entry(n->right, struct item, node);
		ck_assert_uint_gt(c->key, it->key);
		max = MAX(max, c->max);
	}
	ck_assert_uint_eq(it->max, max);
	(*count)++;
	return l + !n->red;
}

static void check_tree(const struct rb_root *root, size_t expect)
{
	size_t count = 0, walked = 0;
	struct rb_node *pos, *last = NULL;

	check_subtree(root->node, NULL, &count);
	ck_assert(!root->node || !root->node->red);
	ck_assert_uint_eq(count, expect);
	rb_for_each (pos, root) {
		ck_assert_ptr_eq(rb_prev(pos), last);
		if (last)
			ck_assert_uint_lt(rb_entry(last, struct item, node)->key,
					  rb_entry(pos, struct item, node)->key);
		last = pos;
		walked++;
	}
	ck_assert_uint_eq(walked, expect);
	ck_assert_ptr_eq(rb_last(root), last);
}

START_TEST(empty_tree_has_no_first_and_no_last)
{
	struct rb_root root = {0};

	ck_assert_ptr_null(rb_first(&root));
	ck_assert_ptr_null(rb_last(&root));
	check_tree(&root, 0);
}
END_TEST

START_TEST(ascending_inserts_keep_order_and_balance)
{
	enum { N = 1000 };
	struct rb_root root = {.augment = item_augment};
	struct item *items = calloc(N, sizeof(*items));

	for (unsigned i = 0; i < N; i++) {
		items[i].key = items[i].value = i;
		item_insert(&root, &items[i]);
	}
	check_tree(&root, N);
	for (unsigned i = 0; i < N; i++) {
		rb_erase(&root, &items[i].node);
		if (i % 97 == 0)
			check_tree(&root, N - 1 - i);
	}
	ck_assert_ptr_null(root.node);
	free(items);
}
END_TEST

START_TEST(random_inserts_and_erases_keep_every_rule)
{
	enum { N = 300, STEPS = 20000 };
	struct rb_root root = {.augment = item_augment};
	struct item *items = calloc(N, sizeof(*items));
	size_t linked = 0;

	srandom((unsigned)_i + 1);
	for (unsigned i = 0; i < N; i++) {
		items[i].key = i;
		items[i].value = (unsigned)random() % 1000;
	}
	for (int step = 0; step < STEPS; step++) {
		struct item *it = &items[random() % N];
		if (it->linked && random() % 8 == 0) {
			it->value = (unsigned)random() % 1000;
			rb_augment_path(&root, &it->node);
		} else if (it->linked) {
			rb_erase(&root, &it->node);
			it->linked = false;
			linked--;
		} else {
			item_insert(&root, it);
			linked++;
		}
		if (step % 16 == 0)
			check_tree(&root, linked);
	}
	check_tree(&root, linked);
	free(items);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("rbtree");
	TCase *tc = tcase_create("rbtree");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, empty_tree_has_no_first_and_no_last);
	tcase_add_test(tc, ascending_inserts_keep_order_and_balance);
	tcase_add_loop_test(tc, random_inserts_and_erases_keep_every_rule, 0, 8);
	suite_add_tcase(s, tc);

	SRunner *sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	int failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
