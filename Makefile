# Mayfly's build. `make help` lists the targets.
#
# Each folder becomes an archive of all its objects but main.o; a program is its main.o, its own
# archive, libqueue, libcommon, and the libraries named in LIBS_<folder>: that line is its whole
# list of dependencies. A unit test tests/unit/<folder>_<noun>.c is linked like the program of its folder.
# The operator's tool is queue/main.c, and the rest of it is a folder of its own, queue/tool, so that
# libqueue needs nothing that only the tool does; its unit tests are tool_<noun>.c.

MAKEFLAGS += --no-builtin-rules
comma := ,
.DELETE_ON_ERROR:

VERSION  := 0.1.0
SERVICES := smtpd storer reaper relay
PROGRAMS := $(SERVICES) queue
FOLDERS  := common queue queue/tool $(SERVICES)

LIBS_common := -luv
LIBS_queue  :=
LIBS_smtpd  := -luv -lssl -lcrypto -lseccomp
LIBS_storer := -luv -lpq
LIBS_reaper := -luv -lpq
LIBS_relay  := -luv -lcurl
LIBS_queue/tool := -lpq -ljansson

ifeq ($(origin CC),default)
CC       := gcc
endif
BUILD    := build
OPTIMIZE := -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2
# WITH is what the tests link with a build of theirs.
ifeq ($(SANITIZE),1)
BUILD    := build/sanitize
OPTIMIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
endif
ifeq ($(SANITIZE),thread)
BUILD    := build/thread
OPTIMIZE := -O1 -fno-omit-frame-pointer -fsanitize=thread
WITH      = $(BUILD)/objects/tests/system/closes.o
endif
ifeq ($(SANITIZE),fuzz)
BUILD    := build/fuzz
OPTIMIZE := -O2 -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link -fno-sanitize-recover=all \
            -fno-sanitize-coverage=trace-cmp
endif
# Builds of the tests: with fault points (common/fault.h), and with counters of what was run.
ifeq ($(FAULTS),1)
BUILD    := $(BUILD)/faults
OPTIMIZE += -DFAULTS
endif
ifeq ($(COVERAGE),1)
BUILD    := $(BUILD)/coverage
OPTIMIZE := -O0 --coverage -fprofile-update=atomic
WITH      = $(BUILD)/objects/tests/system/counters.o
endif

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 \
            -Wundef -Wvla -Wpointer-arith -Wwrite-strings -Wimplicit-fallthrough -Werror
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fPIE
ifneq ($(filter x86_64 i686,$(shell uname -m)),)
HARDEN   += -fcf-protection
endif
CFLAGS   ?= -g
MAYFLY_CFLAGS := -std=c17 -D_GNU_SOURCE -DMAYFLY_VERSION='"$(VERSION)"' -I. \
            -I$(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql) \
            $(OPTIMIZE) $(HARDEN) $(WARNINGS)
MAYFLY_LDFLAGS := $(filter -fsanitize% --coverage,$(OPTIMIZE)) -pie -Wl,-z,relro,-z,now,-z,noexecstack \
            $(if $(filter 1,$(COVERAGE)),-Wl$(comma)--wrap=syscall$(comma)--wrap=seccomp_load)

PREFIX   := /usr/local
SBINDIR  := $(PREFIX)/sbin
MANDIR   := $(PREFIX)/share/man
SHAREDIR := $(PREFIX)/share/mayfly
COMPDIR  := $(PREFIX)/share/bash-completion/completions
UNITDIR  := $(PREFIX)/lib/systemd/system

sources    = $(filter-out $(1)/main.c,$(wildcard $(1)/*.c))
objects    = $(patsubst %.c,$(BUILD)/objects/%.o,$(call sources,$(1)))
archive    = $(BUILD)/lib$(subst /,-,$(1)).a
unit_tests := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/*_*.c))

.PHONY: all
all: $(PROGRAMS:%=$(BUILD)/%) ## build the programs (CC=gcc or clang; SANITIZE=1 for ASan and UBSan; V=1 shows the commands)

# A line a file; V=1 shows the commands.
quiet = @printf '%-8s %s\n' '$(1)' '$(2)'; #
ifeq ($(V),1)
quiet :=
endif

# Two notes of what the last build was made of, touched only when that changed: objects of another
# compiler or other flags are made anew, and an archive that lost a source loses its object.
make_note = $(shell mkdir -p $(BUILD) && { echo '$(subst ','\'',$(2))' | cmp -s - $(1) || \
                    echo '$(subst ','\'',$(2))' >$(1); })
flags_note   := $(BUILD)/flags
sources_note := $(BUILD)/sources
ifneq ($(filter-out help clean% uninstall deps format lint cppcheck tidy coverage%,$(or $(MAKECMDGOALS),all)),)
$(call make_note,$(flags_note),$(CC) $(CPPFLAGS) $(CFLAGS) $(MAYFLY_CFLAGS) $(MAYFLY_LDFLAGS) $(LDFLAGS))
$(call make_note,$(sources_note),$(foreach folder,$(FOLDERS),$(call sources,$(folder))))
endif

.PHONY: need-build need-test
need-build need-test: need-%:
	@common/packages.sh check $*

# Where the counters are, in a copy of the tree as well.
$(BUILD)/objects/tests/system/counters.o: CPPFLAGS += -DCOVERAGE_DIRECTORY='"$(abspath $(BUILD))/objects"'

$(BUILD)/objects/%.o: %.c $(flags_note) | need-build
	@mkdir -p $(@D)
	$(call quiet,CC,$<)$(CC) $(CPPFLAGS) $(CFLAGS) $(MAYFLY_CFLAGS) -MMD -MP -c -o $@ $<

define folder_rules
$(call archive,$(1)): $(call objects,$(1)) $(sources_note)
	@rm -f $$@
	$$(call quiet,AR,$$@)$(AR) rcs $$@ $$(filter %.o,$$^)
endef
$(foreach folder,$(FOLDERS),$(eval $(call folder_rules,$(folder))))

define program_rules
$(BUILD)/$(1): $(BUILD)/objects/$(1)/main.o $(call archive,$(2)) $(call archive,queue) $(call archive,common) $(WITH)
	$$(call quiet,LD,$$@)$(CC) $(CFLAGS) $(MAYFLY_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(LIBS_$(2))
endef
$(foreach program,$(SERVICES),$(eval $(call program_rules,$(program),$(program))))
$(eval $(call program_rules,queue,queue/tool))

# The smarthosts of these tests speak TLS by OpenSSL itself, which relay leaves to libcurl.
LIBS_TEST_relay_channel         := -lssl -lcrypto
LIBS_TEST_relay_channel_data    := -lssl -lcrypto
LIBS_TEST_relay_channel_trouble := -lssl -lcrypto

# In these every call may fail (tests/unit/failing.h).
FAILING := $(foreach name,malloc calloc realloc reallocarray strdup fstat stat fstatat fstatvfs faccessat mkdirat \
               fchmodat fsync syncfs sync_file_range renameat renameat2 unlinkat futimens flock uname \
               fdopendir readdir pread write pwrite writev openat open,-Wl,--wrap=$(name))
LIBS_TEST_queue_failing  := $(FAILING)
LIBS_TEST_storer_failing := $(FAILING)
LIBS_TEST_storer_copy    := $(FAILING) -Wl,--wrap=PQputCopyData,--wrap=PQputCopyEnd

define unit_test_rules
$(BUILD)/tests/unit/$(1): $(BUILD)/objects/tests/unit/$(1).o $(call archive,$(2)) $(call archive,queue) $(call archive,common) $(WITH)
	@mkdir -p $$(@D)
	$$(call quiet,LD,$$@)$(CC) $(CFLAGS) $(MAYFLY_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(LIBS_$(2)) $(LIBS_TEST_$(1)) -luv -lcmocka
$(BUILD)/objects/tests/unit/$(1).o: | need-test
endef
test_folder = $(patsubst tool,queue/tool,$(firstword $(subst _, ,$(1))))
$(foreach test,$(notdir $(unit_tests)),$(eval $(call unit_test_rules,$(test),$(call test_folder,$(test)))))

# A fuzz target tests/fuzz/<target>.c, with what stands in tests/fuzz/<target>_*.c, is linked with all
# of smtpd, or of the program that is named here: names of one may be those of another. libFuzzer comes with clang, so these have a build of their own.
fuzz_targets := $(foreach name,$(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/*.c)),$(if $(findstring _,$(name)),,$(name)))

FUZZ_PROGRAM_relay := relay
fuzz_program = $(or $(FUZZ_PROGRAM_$(1)),smtpd)

# Allocations of smtpd fail when an input says so, and its certificate is at hand (tests/fuzz/session_world.c).
FUZZ_LDFLAGS_session := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup \
                        -Wl,--wrap=tls_context_load,--wrap=tls_context_free

define fuzz_rules
$(BUILD)/tests/fuzz/$(1): $(patsubst %.c,$(BUILD)/objects/%.o,tests/fuzz/$(1).c $(wildcard tests/fuzz/$(1)_*.c)) \
                          $(call archive,$(call fuzz_program,$(1))) $(call archive,queue) $(call archive,common)
	@mkdir -p $$(@D)
	$$(call quiet,LD,$$@)$(CC) $(CFLAGS) $(MAYFLY_LDFLAGS) -fsanitize=fuzzer $$(FUZZ_LDFLAGS_$(1)) $(LDFLAGS) -o $$@ $$^ $(LIBS_$(call fuzz_program,$(1)))
endef
$(foreach target,$(fuzz_targets),$(eval $(call fuzz_rules,$(target))))

.PHONY: fuzz-targets
ifeq ($(SANITIZE),fuzz)
fuzz-targets: $(fuzz_targets:%=$(BUILD)/tests/fuzz/%)
else
fuzz-targets: ## build what `make fuzz` runs
	@$(MAKE) --no-print-directory $(all_cores) fuzz-targets SANITIZE=fuzz CC=clang BUILD=build/fuzz
endif

FUZZ_SECONDS := 60
FUZZ_TARGETS := $(fuzz_targets)

.PHONY: fuzz
fuzz: ## look for inputs that break smtpd or relay: FUZZ_SECONDS=60 for each of FUZZ_TARGETS=
	@common/packages.sh install build test
	@$(MAKE) --no-print-directory fuzz-targets
	@tests/fuzz/run.sh $(FUZZ_SECONDS) $(FUZZ_TARGETS)

# The tools of the benchmark: what each is made of beside its own file, and what it is linked with.
BENCH_TOOLS     := commit copy files load sink
bench_objects    = $(patsubst %,$(BUILD)/objects/tests/bench/%.o,$(1))
BENCH_commit    := $(call bench_objects,measure) $(call archive,queue) $(call archive,common)
BENCH_copy      := $(call bench_objects,measure message) $(call archive,queue) $(call archive,common)
BENCH_files     := $(call bench_objects,measure message)
BENCH_load      := $(call bench_objects,measure message load_link load_session load_tls)
LIBS_BENCH_copy := -lpq
LIBS_BENCH_load := -lssl -lcrypto

define bench_rules
$(BUILD)/tests/bench/$(1): $(BUILD)/objects/tests/bench/$(1).o $(BENCH_$(1)) $(WITH)
	@mkdir -p $$(@D)
	$$(call quiet,LD,$$@)$(CC) $(CFLAGS) $(MAYFLY_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(LIBS_BENCH_$(1))
endef
$(foreach tool,$(BENCH_TOOLS),$(eval $(call bench_rules,$(tool))))

.PHONY: bench-tools
bench-tools: $(BENCH_TOOLS:%=$(BUILD)/tests/bench/%) ## build what the benchmarks measure with

.PHONY: bench-commit
bench-commit: $(BUILD)/tests/bench/commit ## measure what a durable message costs in BENCH_DIRECTORY=
	@test -n "$(BENCH_DIRECTORY)" || { echo "make bench-commit BENCH_DIRECTORY=…: where?" >&2; exit 64; }
	@spool=$$(mktemp -d "$(BENCH_DIRECTORY)/mayfly-bench.XXXXXX") && $< "$$spool"; result=$$?; rm -rf "$$spool"; exit $$result

.PHONY: bench-relay
bench-relay: all ## measure what goes through smtpd and relay, beside Postfix, in BENCH_DIRECTORY=
	@test -n "$(BENCH_DIRECTORY)" || { echo "make bench-relay BENCH_DIRECTORY=…: where?" >&2; exit 64; }
	@common/packages.sh check test
	@MAYFLY_BUILD="$(BUILD)" /usr/bin/python3 tests/bench/relay.py "$(BENCH_DIRECTORY)"

.PHONY: bench bench-quick
bench: ## measure Mayfly beside Postfix and the machine's limits (BENCH_DIRECTORY=, ONLY=sections)
bench-quick: ## the same in two minutes, with smaller runs
bench bench-quick:
	@common/packages.sh install build run bench
	@$(MAKE) --no-print-directory $(all_cores) all bench-tools
	@MAYFLY_BUILD="$(BUILD)" BENCH_DIRECTORY="$(BENCH_DIRECTORY)" /usr/bin/python3 tests/bench/bench.py \
	    $(if $(filter bench-quick,$@),--quick) $(if $(ONLY),--only $(ONLY))

# A new user's two commands build on every core, unless -j says otherwise.
all_cores = $(if $(findstring -j,$(MAKEFLAGS)),,-j$(shell nproc))

.PHONY: run
run: ## install what is missing, build, and run everything with SMTP on 127.0.0.1:2525 (PORT=, RELAY_HOST=, any setting)
	@common/packages.sh install build run
	@$(MAKE) --no-print-directory $(all_cores) all
	@area=$$(common/run.sh area) && $(MAKE) --no-print-directory -s install PREFIX="$$area" DESTDIR=
	@exec common/run.sh start

.PHONY: clean-run
clean-run: ## forget what `make run` keeps: its database, its mail, its logs
	@common/run.sh forget

.PHONY: test
test: ## install what is missing, build, and run all tests (TEST_SCALE=full: in full size)
	@common/packages.sh install build run test
	@$(MAKE) --no-print-directory $(all_cores) all unit-tests bench-tools
	@$(MAKE) --no-print-directory fuzz-targets
	@MAYFLY_BUILD="$(BUILD)" common/test.sh $(unit_tests) tests/system

# Proof by experiment that nothing acknowledged is lost. Its parts are tests/system/torture/test_torture_<part>*.py.
.PHONY: torture
torture: ## try to lose, double or alter a message in every way: TORTURE=full or quick, PARTS=, SOAK_SECONDS=
	@common/packages.sh install build run test torture
	@$(MAKE) --no-print-directory $(all_cores) all
	@MAYFLY_BUILD="$(BUILD)" TORTURE=$(or $(TORTURE),full) /usr/bin/python3 tests/system/torture/run.py $(PARTS)

.PHONY: unit-tests unit
unit-tests: $(unit_tests)
unit: unit-tests ## build and run the unit tests alone
	@common/test.sh $(unit_tests)

.PHONY: deps
deps: ## install the Debian packages that are missing (common/packages.txt)
	@common/packages.sh install build run test

.PHONY: schema
schema: ## make or upgrade the tables in DATABASE_URL=
	@test -n "$$DATABASE_URL" || { echo "make schema DATABASE_URL=postgresql://…: which database?" >&2; exit 64; }
	@psql -X -q "$$DATABASE_URL" -v ON_ERROR_STOP=1 -f sql/schema.sql
export DATABASE_URL

.PHONY: install
install: all ## install under PREFIX=/usr/local, in DESTDIR= if given
	install -d "$(DESTDIR)$(SBINDIR)"
	$(foreach p,$(PROGRAMS),install -m 755 $(BUILD)/$(p) "$(DESTDIR)$(SBINDIR)/mayfly-$(p)" &&) :
	$(foreach m,$(manuals),install -D -m 644 $(m) "$(DESTDIR)$(call manual_path,$(m))" &&) :
	$(foreach f,$(schema_files),install -D -m 644 $(f) "$(DESTDIR)$(SHAREDIR)/$(f)" &&) :
	$(foreach p,$(SERVICES),$(call install_service,$(p),"$(DESTDIR)$(SHAREDIR)/service/mayfly-$(p)") &&) :
	$(foreach u,$(units),install -D -m 644 $(u) "$(DESTDIR)$(call unit_path,$(u))" && \
	    sed -i 's|@SBINDIR@|$(SBINDIR)|' "$(DESTDIR)$(call unit_path,$(u))" &&) :
	install -m 755 common/setup.sh "$(DESTDIR)$(SBINDIR)/mayfly-setup"
	install -D -m 644 queue/mayfly-queue.bash "$(DESTDIR)$(COMPDIR)/mayfly-queue"
	install -m 644 common/mayfly-dashboard.json common/mayfly-alerts.yml "$(DESTDIR)$(SHAREDIR)"

# A service directory is what all of them share and what the program adds, with the place of the programs filled in.
define install_service
{ install -d $(2) && cp -r common/service/. $(1)/service/. $(2) && chmod -R u=rwX,go=rX $(2) && \
    sed -i 's|@SBINDIR@|$(SBINDIR)|' $(2)/run; }
endef

.PHONY: uninstall
uninstall: ## remove what install made, with the same PREFIX= and DESTDIR=
	rm -f $(foreach p,$(PROGRAMS),"$(DESTDIR)$(SBINDIR)/mayfly-$(p)") $(foreach m,$(manuals),"$(DESTDIR)$(call manual_path,$(m))")
	rm -f "$(DESTDIR)$(COMPDIR)/mayfly-queue" "$(DESTDIR)$(SBINDIR)/mayfly-setup" $(foreach u,$(units),"$(DESTDIR)$(call unit_path,$(u))")
	rm -rf "$(DESTDIR)$(UNITDIR)/mayfly-.service.d" "$(DESTDIR)$(SHAREDIR)"

manuals      := $(wildcard $(FOLDERS:%=%/*.[58]))
manual_path   = $(MANDIR)/man$(subst .,,$(suffix $(1)))/mayfly-$(patsubst mayfly-%,%,$(notdir $(1)))
units        := $(wildcard $(SERVICES:%=%/mayfly-*.service) smtpd/mayfly-smtpd.socket) common/mayfly-.service.d/hardening.conf
unit_path     = $(UNITDIR)/$(patsubst $(firstword $(subst /, ,$(1)))/%,%,$(1))
schema_files := $(wildcard sql/*.sql sql/*/*.sql)

c_files := $(wildcard $(foreach folder,$(FOLDERS) tests/unit tests/system tests/system/torture tests/bench tests/fuzz,$(folder)/*.[ch]))
scripts := .ci/run $(wildcard common/*.sh queue/*.bash tests/fuzz/*.sh tests/examples/*.sh) $(shell grep -rlE '^\#!/bin/(ba)?sh' common/service $(SERVICES:%=%/service))

.PHONY: format lint
format: ## lay out the C code
	clang-format -i $(c_files)
lint: ## check the layout of the C code, and read code and scripts with cppcheck and shellcheck
	@common/packages.sh check lint
	@clang-format --dry-run -Werror $(c_files)
	@shellcheck $(scripts)
	@$(MAKE) --no-print-directory cppcheck
	@$(MAKE) --no-print-directory $(all_cores) tidy

# Where a variable is declared is a question of layout: several functions name theirs at the head. And
# `continue` is what a loop has for a body that does all in its condition.
.PHONY: cppcheck
cppcheck: ## read the C code with cppcheck, for mistakes
	@cppcheck --quiet --std=c11 --enable=warning,style,portability,performance --inline-suppr \
	    --error-exitcode=1 --suppress=missingIncludeSystem --suppress=variableScope \
	    --suppress=redundantContinue -I. -D_GNU_SOURCE -DMAYFLY_VERSION='""' $(FOLDERS)

# A file that was read is read again when it, a header, or what is looked for has changed.
tidied := $(patsubst %.c,build/tidy/%.ok,$(foreach folder,$(FOLDERS),$(call sources,$(folder)) $(wildcard $(folder)/main.c)))
build/tidy/%.ok: %.c .clang-tidy $(wildcard $(FOLDERS:%=%/*.h))
	@mkdir -p $(@D)
	$(call quiet,TIDY,$<)clang-tidy --quiet $< -- $(filter -std% -D% -I%,$(MAYFLY_CFLAGS)) 2>$@.words || { cat $@.words >&2; false; }
	@touch $@

.PHONY: tidy
tidy: $(tidied) ## read the C code with clang-tidy, for mistakes (.clang-tidy says which)

# What the unit tests and the system tests run of the code on which it depends that no mail is lost.
COVERED       := queue smtpd storer
LINES_GOAL    := 95
BRANCHES_GOAL := 85

.PHONY: coverage
coverage: ## run the tests and show which lines and branches of queue, smtpd and storer they run
	@common/packages.sh install build run test torture
	@$(MAKE) --no-print-directory $(all_cores) COVERAGE=1 BUILD=build/coverage all unit-tests bench-tools
	@find build/coverage -name '*.gcda' -delete
	@MAYFLY_BUILD=build/coverage PYTEST_ADDOPTS="--ignore=tests/system/torture --ignore=tests/system/test_fuzz.py" \
	    common/test.sh $(unit_tests:$(BUILD)/%=build/coverage/%) tests/system
	@$(MAKE) --no-print-directory coverage-table

.PHONY: coverage-table
coverage-table: ## show what the last `make coverage` counted
	@/usr/bin/python3 tests/coverage.py build/coverage/objects $(LINES_GOAL) $(BRANCHES_GOAL) $(COVERED)

.PHONY: clean
clean: ## remove what was built
	rm -rf build

.PHONY: help
help: ## list these targets
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1\t\2/p' Makefile | sort | while IFS='	' read -r target meaning; do \
	    printf 'make %-13s %s\n' "$$target" "$$meaning"; done

-include $(shell find $(BUILD)/objects -name '*.d' 2>/dev/null)
