#include "sentry/kernel/task.h"

const struct umem *task_umem(struct task *t)
{
	return &t->um;
}
