#include "sentry/kernel/seccomp/bpf.h"

#include <errno.h>
#include <string.h>

/* ---- which programs are filters ---- */

static int check_insn(const struct sock_filter *f, size_t pc, size_t len)
{
	switch (f->code) {
	case BPF_LD | BPF_W | BPF_ABS:
		return f->k < sizeof(struct seccomp_data) && !(f->k & 3) ? 0 : -EINVAL;
	case BPF_LD | BPF_MEM:
	case BPF_LDX | BPF_MEM:
	case BPF_ST:
	case BPF_STX:
		return f->k < BPF_MEMWORDS ? 0 : -EINVAL;
	case BPF_ALU | BPF_DIV | BPF_K:
		return f->k ? 0 : -EINVAL;
	case BPF_ALU | BPF_LSH | BPF_K:
	case BPF_ALU | BPF_RSH | BPF_K:
		return f->k < 32 ? 0 : -EINVAL;
	case BPF_JMP | BPF_JA:
		return f->k < len - pc - 1 ? 0 : -EINVAL;
	case BPF_JMP | BPF_JEQ | BPF_K:
	case BPF_JMP | BPF_JEQ | BPF_X:
	case BPF_JMP | BPF_JGE | BPF_K:
	case BPF_JMP | BPF_JGE | BPF_X:
	case BPF_JMP | BPF_JGT | BPF_K:
	case BPF_JMP | BPF_JGT | BPF_X:
	case BPF_JMP | BPF_JSET | BPF_K:
	case BPF_JMP | BPF_JSET | BPF_X:
		return pc + f->jt + 1 < len && pc + f->jf + 1 < len ? 0 : -EINVAL;
	case BPF_LD | BPF_W | BPF_LEN:
	case BPF_LDX | BPF_W | BPF_LEN:
	case BPF_LD | BPF_IMM:
	case BPF_LDX | BPF_IMM:
	case BPF_RET | BPF_K:
	case BPF_RET | BPF_A:
	case BPF_ALU | BPF_ADD | BPF_K:
	case BPF_ALU | BPF_ADD | BPF_X:
	case BPF_ALU | BPF_SUB | BPF_K:
	case BPF_ALU | BPF_SUB | BPF_X:
	case BPF_ALU | BPF_MUL | BPF_K:
	case BPF_ALU | BPF_MUL | BPF_X:
	case BPF_ALU | BPF_DIV | BPF_X:
	case BPF_ALU | BPF_AND | BPF_K:
	case BPF_ALU | BPF_AND | BPF_X:
	case BPF_ALU | BPF_OR | BPF_K:
	case BPF_ALU | BPF_OR | BPF_X:
	case BPF_ALU | BPF_XOR | BPF_K:
	case BPF_ALU | BPF_XOR | BPF_X:
	case BPF_ALU | BPF_LSH | BPF_X:
	case BPF_ALU | BPF_RSH | BPF_X:
	case BPF_ALU | BPF_NEG:
	case BPF_MISC | BPF_TAX:
	case BPF_MISC | BPF_TXA:
		return 0;
	}
	return -EINVAL;
}

/*
 * Every scratch word that is read must have been written on every way there.  Jumps go forward
 * only, so that one pass sees all ways to an instruction before the instruction.
 */
static int check_scratch(const struct sock_filter *prog, size_t len)
{
	uint16_t reach[BPF_PROGRAM_MAX]; /* words written on all jumps to here so far */
	uint16_t valid = 0;

	memset(reach, 0xff, sizeof(reach));
	for (size_t pc = 0; pc < len; pc++) {
		const struct sock_filter *f = &prog[pc];
		valid &= reach[pc];
		switch (f->code) {
		case BPF_ST:
		case BPF_STX:
			valid |= (uint16_t)(1u << f->k);
			break;
		case BPF_LD | BPF_MEM:
		case BPF_LDX | BPF_MEM:
			if (!(valid >> f->k & 1))
				return -EINVAL;
			break;
		case BPF_JMP | BPF_JA:
			reach[pc + 1 + f->k] &= valid;
			valid = 0xffff;
			break;
		default:
			if (BPF_CLASS(f->code) != BPF_JMP)
				break;
			reach[pc + 1 + f->jt] &= valid;
			reach[pc + 1 + f->jf] &= valid;
			valid = 0xffff;
		}
	}
	return 0;
}

int bpf_check(const struct sock_filter *prog, size_t len)
{
	if (len == 0 || len > BPF_PROGRAM_MAX)
		return -EINVAL;
	for (size_t pc = 0; pc < len; pc++) {
		int err = check_insn(&prog[pc], pc, len);
		if (err)
			return err;
	}
	uint16_t last = prog[len - 1].code;
	if (last != (BPF_RET | BPF_K) && last != (BPF_RET | BPF_A))
		return -EINVAL;
	return check_scratch(prog, len);
}

/* ---- running one ---- */

static uint32_t load(const struct seccomp_data *data, uint32_t off)
{
	uint32_t v;

	memcpy(&v, (const uint8_t *)data + off, sizeof(v));
	return v;
}

/* Shifts take the low five bits, as the processor does.  Division by zero is the caller's. */
static uint32_t alu(uint16_t op, uint32_t a, uint32_t b)
{
	switch (op) {
	case BPF_ADD:
		return a + b;
	case BPF_SUB:
		return a - b;
	case BPF_MUL:
		return a * b;
	case BPF_DIV:
		return a / b;
	case BPF_AND:
		return a & b;
	case BPF_OR:
		return a | b;
	case BPF_XOR:
		return a ^ b;
	case BPF_LSH:
		return a << (b & 31);
	case BPF_RSH:
		return a >> (b & 31);
	default: /* BPF_NEG */
		return -a;
	}
}

static uint32_t jump(const struct sock_filter *f, uint32_t a, uint32_t x)
{
	uint32_t b = BPF_SRC(f->code) == BPF_X ? x : f->k;
	int taken;

	switch (BPF_OP(f->code)) {
	case BPF_JA:
		return f->k;
	case BPF_JEQ:
		taken = a == b;
		break;
	case BPF_JGT:
		taken = a > b;
		break;
	case BPF_JGE:
		taken = a >= b;
		break;
	default: /* BPF_JSET */
		taken = (a & b) != 0;
	}
	return taken ? f->jt : f->jf;
}

uint32_t bpf_run(const struct sock_filter *prog, const struct seccomp_data *data)
{
	uint32_t a = 0, x = 0, mem[BPF_MEMWORDS] = {0};

	for (const struct sock_filter *f = prog;; f++) {
		uint32_t src = BPF_SRC(f->code) == BPF_X ? x : f->k;
		switch (f->code) {
		case BPF_RET | BPF_K:
			return f->k;
		case BPF_RET | BPF_A:
			return a;
		case BPF_LD | BPF_W | BPF_ABS:
			a = load(data, f->k);
			break;
		case BPF_LD | BPF_W | BPF_LEN:
			a = sizeof(*data);
			break;
		case BPF_LDX | BPF_W | BPF_LEN:
			x = sizeof(*data);
			break;
		case BPF_LD | BPF_IMM:
			a = f->k;
			break;
		case BPF_LDX | BPF_IMM:
			x = f->k;
			break;
		case BPF_LD | BPF_MEM:
			a = mem[f->k];
			break;
		case BPF_LDX | BPF_MEM:
			x = mem[f->k];
			break;
		case BPF_ST:
			mem[f->k] = a;
			break;
		case BPF_STX:
			mem[f->k] = x;
			break;
		case BPF_MISC | BPF_TAX:
			x = a;
			break;
		case BPF_MISC | BPF_TXA:
			a = x;
			break;
		case BPF_ALU | BPF_DIV | BPF_X:
			if (x == 0)
				return 0;
			a /= x;
			break;
		default:
			if (BPF_CLASS(f->code) == BPF_JMP)
				f += jump(f, a, x);
			else
				a = alu(BPF_OP(f->code), a, src);
		}
	}
}
