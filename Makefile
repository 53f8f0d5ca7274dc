# One Makefile.  `make help` lists the targets.
#
#   make                  build/runsc
#   make check            set up, build, run every test
#   make check-quick      unit tests and Linux programs only
#   make check-handoff    Linux programs with every hand-off made to sleep, then to spin
#   make stress           signals, forks and changing text in 32 threads, STRESS_SECONDS (600)
#   make lint             layers, formatting, locks, scripts, generated documents
#   make fuzz             every fuzzer for FUZZ_SECONDS (20) each
#   make bench            measure beside native (PEER=/path/to/another/runsc: and that)
#   make demo             a few programs and a container
#   make install          to $(DESTDIR)$(PREFIX)/bin
#   make clean            remove build/
#
#   make SAN=asan …       the same with AddressSanitizer and UBSan (build/asan)
#   make DEBUG=1 …        with assertions, the order of locks among them (build/debug)
#   make V=1 …            show commands

SAN      ?=
PREFIX   ?= /usr/local
DESTDIR  ?=
VARIANT  := $(if $(SAN),$(SAN),$(if $(DEBUG),debug,release))
B        := build/$(VARIANT)
CC       := gcc
Q        := $(if $(V),,@)

PKGS     := jansson libelf libdw
WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla -Wno-missing-field-initializers
HARDEN   := -fPIE -fstack-protector-strong -fstack-clash-protection -fcf-protection
CPPFLAGS := -I. -I$(B)/gen -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
CFLAGS   := -std=gnu11 -g -O2 -fno-omit-frame-pointer -pthread $(WARN) $(HARDEN)
LDFLAGS  := -Wl,-z,relro,-z,now -pthread
LDLIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
PIE      := -pie
# Every sandbox executes this file three times, and the dynamic linker takes most of a millisecond
# each time: where all archives are there, the program is a static one (position-independent still).
ARCHIVES := jansson dw elf lzma bz2 z
ifeq ($(SAN),)
ifeq ($(filter lib%,$(foreach a,$(ARCHIVES),$(shell $(CC) -print-file-name=lib$(a).a))),)
LDLIBS   := $(ARCHIVES:%=-l:lib%.a)
PIE      := -static-pie
endif
endif
ifeq ($(SAN),asan)
CFLAGS   += -fsanitize=address,undefined -fno-sanitize-recover=undefined -O1
LDFLAGS  += -fsanitize=address,undefined
else ifeq ($(SAN),fuzz)
CC       := clang
CFLAGS   += -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -O1 -DNDEBUG
LDFLAGS  += -fsanitize=fuzzer,address,undefined
else ifeq ($(SAN),tsan)
CFLAGS   += -fsanitize=thread -O1
LDFLAGS  += -fsanitize=thread
else ifeq ($(DEBUG),)
CPPFLAGS += -DNDEBUG -D_FORTIFY_SOURCE=3
endif

SRCDIRS  := sentry gofer platform syscalls oci
SRCS     := $(filter-out platform/systrap/stub/% %_filter_gen.c,$(shell find $(SRCDIRS) -name '*.c' | sort))
ASMS     := $(filter-out platform/systrap/stub/%,$(shell find $(SRCDIRS) -name '*.S' | sort))
OBJS     := $(SRCS:%.c=$(B)/%.o) $(ASMS:%.S=$(B)/%.o)
LIBOBJS  := $(filter-out $(B)/oci/main.o,$(OBJS))

.PHONY: all check check-quick check-handoff stress lint demo bench fuzz install clean help
# build/runsc is the release build; other variants stay in their own folder.
all: $(if $(filter release,$(VARIANT)),build/runsc,$(B)/runsc)

help:
	@sed -n 's/^#   //p' Makefile

build/runsc: $(B)/runsc
	$(Q)cp -f $< $@.new && mv -f $@.new $@

$(B)/runsc: $(OBJS)
	$(Q)$(CC) $(LDFLAGS) $(PIE) -o $@ $^ $(LDLIBS)

# A change of flags rebuilds everything of the variant.
FLAGS := $(CC) $(CPPFLAGS) $(CFLAGS)
$(B)/flags: force
	$(Q)mkdir -p $(B); echo '$(FLAGS)' | cmp -s - $@ || echo '$(FLAGS)' > $@
.PHONY: force

$(B)/%.o: %.c $(B)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<
$(B)/%.o: %.S $(B)/flags
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# ---- systrap: the two freestanding images that run in guest processes (platform/systrap/stub) ----
STUB_D     := $(B)/platform/systrap/stub
STUB_CFLAGS := -std=gnu11 -g -O2 -ffreestanding -nostdlib -fPIE -fvisibility=hidden -fno-plt \
	-fno-stack-protector -fno-stack-clash-protection -fcf-protection=none -mgeneral-regs-only \
	-mno-red-zone -fno-jump-tables -fno-tree-loop-distribute-patterns \
	-fno-asynchronous-unwind-tables -U_FORTIFY_SOURCE $(WARN) -I. -D_GNU_SOURCE
STUB_OBJS  := $(addprefix $(STUB_D)/,entry.o stub.o command.o direct.o futex.o answer.o marshal.o)

$(STUB_D)/%.o: platform/systrap/stub/%.c $(B)/flags
	$(Q)mkdir -p $(@D)
	$(Q)gcc $(STUB_CFLAGS) -MMD -MP -c -o $@ $<
$(STUB_D)/%.o: platform/systrap/stub/%.S $(B)/flags
	$(Q)mkdir -p $(@D)
	$(Q)gcc $(STUB_CFLAGS) -MMD -MP -c -o $@ $<
$(STUB_D)/stub.elf: $(STUB_OBJS) platform/systrap/stub/stub.ld
	$(Q)$(LD) -static --build-id=none -z noexecstack -z max-page-size=4096 \
		--no-warn-rwx-segments -T platform/systrap/stub/stub.ld -o $@ $(STUB_OBJS)
$(STUB_D)/systrap-stub.bin: $(STUB_D)/stub.elf
	$(Q)objcopy -O binary $< $@
$(STUB_D)/systrap-zygote.elf: $(STUB_D)/zygote.o platform/systrap/stub/zygote.ld
	$(Q)$(LD) -static --build-id=none -z noexecstack -z max-page-size=4096 \
		-T platform/systrap/stub/zygote.ld -o $@ $< && strip $@
$(B)/platform/systrap/blob.o: CPPFLAGS += -Wa,-I$(STUB_D)
$(B)/platform/systrap/blob.o: $(STUB_D)/systrap-stub.bin $(STUB_D)/systrap-zygote.elf
-include $(STUB_OBJS:.o=.d) $(STUB_D)/zygote.d

# ---- system call filters of our own processes: libseccomp compiles them here, not at each start ----
FILTERS := $(patsubst %_gen.c,$(B)/gen/%.h,$(shell find $(SRCDIRS) -name '*_filter_gen.c'))
.SECONDARY: $(FILTERS:$(B)/gen/%.h=$(B)/%_gen)
$(B)/%_filter_gen: %_filter_gen.c $(B)/flags
	$(Q)mkdir -p $(@D)
	$(Q)gcc $(CPPFLAGS) -std=gnu11 $(WARN) $(if $(filter asan,$(SAN)),-D__SANITIZE_ADDRESS__) -MMD -MP -o $@ $< -lseccomp
$(B)/gen/%_filter.h: $(B)/%_filter_gen
	$(Q)mkdir -p $(@D)
	$(Q)$< > $@.new && mv $@.new $@
$(B)/sentry/host/confine.o $(B)/gofer/confine.o: $(FILTERS)
-include $(FILTERS:$(B)/gen/%.h=$(B)/%_gen.d)

clean:
	rm -rf build

-include $(OBJS:.o=.d)

# ---- tests ----
UNIT     := $(patsubst tests/unit/%.c,%,$(wildcard tests/unit/test_*.c))
COMPAT   := $(sort $(wildcard tests/compat/*.c))
TCFLAGS  := -std=gnu11 -g -O1 -pthread -D_GNU_SOURCE -I. $(WARN)
CHECK_LIBS = $(shell pkg-config --libs check)

$(B)/librunsc.a: $(LIBOBJS)
	$(Q)rm -f $@ && ar rcs $@ $^

# By name: nothing but the sanitizers' runtime asks for it, so the linker would not look.
UNIT_OBJS := $(if $(filter asan,$(SAN)),$(B)/sentry/host/sanitizer.o)
$(B)/tests/unit/%: tests/unit/%.c $(B)/librunsc.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pie -MMD -MP -o $@ $< $(UNIT_OBJS) $(B)/librunsc.a $(CHECK_LIBS) $(LDLIBS)

# Every platform's contract, without the sentry: `platform_test NAME`, or `platform_test NAME bench`.
$(B)/tests/unit/platform_test: tests/unit/platform_test.c tests/unit/platform_test_guest.S \
		tests/unit/platform_test_hostile.h tests/unit/platform_test_bench.h $(B)/librunsc.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pie -o $@ $(filter %.c %.S,$^) $(B)/librunsc.a $(LDLIBS)

# Guest programs: built as users build theirs, not with our flags.
$(B)/tests/compat: $(COMPAT:%.c=$(B)/guest/%.o)
	$(Q)mkdir -p $(@D)
	$(Q)gcc -pthread -o $@ $^ -lrt

$(B)/guest/%.o: %.c $(wildcard tests/compat/*.h)
	$(Q)mkdir -p $(@D)
	$(Q)gcc $(TCFLAGS) -c -o $@ $<

$(B)/tests/escape: tests/escape/escape.c tests/compat/main.c tests/compat/compat.h
	$(Q)mkdir -p $(@D)
	$(Q)gcc $(TCFLAGS) -static -Wno-unused-result -o $@ tests/escape/escape.c tests/compat/main.c

.PHONY: tests setup
setup:
	$(Q).ci/setup build test
tests: $(B)/runsc $(UNIT:%=$(B)/tests/unit/%) $(B)/tests/unit/platform_test $(B)/tests/compat $(B)/tests/escape

# The set-up may install what pkg-config and the compiler need, so the build is a make of its own.
check: setup
	$(Q)$(MAKE) --no-print-directory all tests
	$(Q)tests/run $(B) unit compat integration

check-quick:
	$(Q)$(MAKE) --no-print-directory all tests
	$(Q)tests/run $(B) unit compat

check-handoff:
	$(Q)$(MAKE) --no-print-directory all $(B)/tests/compat
	$(Q)tests/run $(B) handoff

stress:
	$(Q)$(MAKE) --no-print-directory all $(B)/tests/compat
	$(Q)STRESS_SECONDS=$(or $(STRESS_SECONDS),600) $(B)/runsc do $(B)/tests/compat \
		signals_forks_and_changing_text

# SAN=fuzz is a variant of its own: build/fuzz.
FUZZERS := $(patsubst %.c,$(B)/%,$(wildcard tests/fuzz/fuzz_*.c))
$(B)/tests/fuzz/%: tests/fuzz/%.c $(B)/librunsc.a
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -pie -o $@ $< $(B)/librunsc.a $(LDLIBS)
.PHONY: fuzzers
fuzzers: $(FUZZERS)
fuzz:
	$(Q).ci/setup build lint
	$(Q)$(MAKE) --no-print-directory SAN=fuzz fuzzers
	$(Q)tests/run build/fuzz fuzz

lint:
	$(Q).ci/setup build lint
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/lint/run

demo:
	$(Q).ci/setup build
	$(Q)$(MAKE) --no-print-directory all
	$(Q)tests/demo

install: all
	install -D -m 755 build/runsc $(DESTDIR)$(PREFIX)/bin/runsc

# ---- bench: PEER=/path/to/another/runsc adds a column ----
$(B)/bench/ops: bench/ops.c
	$(Q)mkdir -p $(@D)
	$(Q)gcc -O2 -std=gnu11 -D_GNU_SOURCE -pthread $(WARN) -o $@ $<
# The same operations from a program of another C library, and some from a Go program.
$(B)/bench/ops-musl: bench/ops.c
	$(Q)mkdir -p $(@D)
	$(Q)musl-gcc -static -O2 -std=gnu11 -D_GNU_SOURCE -pthread $(WARN) -o $@ $<
$(B)/bench/calls-go: bench/calls.go
	$(Q)mkdir -p $(@D)
	$(Q)GO111MODULE=off GOCACHE=$(abspath $(@D))/go-cache HOME=$(abspath $(@D)) go build -o $@ $<
BENCHES := $(B)/bench/ops $(if $(shell command -v musl-gcc),$(B)/bench/ops-musl) \
	$(if $(shell command -v go),$(B)/bench/calls-go)
bench: all $(BENCHES)
	$(Q)bench/run build/runsc $(BENCHES:%=--ops %) $(if $(PEER),--peer $(PEER)) $(OPS)
