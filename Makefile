# Mayfly's build. `make help` lists the targets.
#
# Each folder becomes an archive of all its objects but main.o; a program is its main.o, its own
# archive, libqueue, libcommon, and the libraries named in LIBS_<program>: that line is its whole
# list of dependencies. A unit test tests/unit/<folder>_<noun>.c is linked like the program of its folder.

MAKEFLAGS += --no-builtin-rules
.DELETE_ON_ERROR:

VERSION  := 0.1.0
PROGRAMS := smtpd storer reaper
FOLDERS  := common queue $(PROGRAMS)

LIBS_common := -luv
LIBS_queue  :=
LIBS_smtpd  := -luv
LIBS_storer := -luv -lpq
LIBS_reaper := -luv -lpq

CC       ?= gcc
BUILD    := build
OPTIMIZE := -O2 -D_FORTIFY_SOURCE=2
ifeq ($(SANITIZE),1)
BUILD    := build/sanitize
OPTIMIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
endif

WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 \
            -Wundef -Wvla -Wpointer-arith -Wwrite-strings -Wimplicit-fallthrough -Werror
HARDEN   := -fstack-protector-strong -fstack-clash-protection -fPIE
CFLAGS   ?= -g
MAYFLY_CFLAGS := -std=c17 -D_GNU_SOURCE -DMAYFLY_VERSION='"$(VERSION)"' -I. \
            -I$(shell pg_config --includedir 2>/dev/null || echo /usr/include/postgresql) \
            $(OPTIMIZE) $(HARDEN) $(WARNINGS)
MAYFLY_LDFLAGS := $(filter -fsanitize%,$(OPTIMIZE)) -pie -Wl,-z,relro,-z,now,-z,noexecstack

objects   = $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(1)/main.c,$(wildcard $(1)/*.c)))
archive   = $(BUILD)/lib$(1).a
unit_tests := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/*_*.c))

.PHONY: all
all: $(PROGRAMS:%=$(BUILD)/%)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(MAYFLY_CFLAGS) -MMD -MP -c -o $@ $<

define folder_rules
$(call archive,$(1)): $(call objects,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	$(AR) rcs $$@ $$^
endef
$(foreach folder,$(FOLDERS),$(eval $(call folder_rules,$(folder))))

define program_rules
$(BUILD)/$(1): $(BUILD)/$(1)/main.o $(call archive,$(1)) $(call archive,queue) $(call archive,common)
	$(CC) $(CFLAGS) $(MAYFLY_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(LIBS_$(1))
endef
$(foreach program,$(PROGRAMS),$(eval $(call program_rules,$(program))))

define unit_test_rules
$(BUILD)/tests/unit/$(1): $(BUILD)/tests/unit/$(1).o $(call archive,$(2)) $(call archive,queue) $(call archive,common)
	$(CC) $(CFLAGS) $(MAYFLY_LDFLAGS) $(LDFLAGS) -o $$@ $$^ $(LIBS_$(2)) -luv -lcmocka
endef
$(foreach test,$(notdir $(unit_tests)),$(eval $(call unit_test_rules,$(test),$(firstword $(subst _, ,$(test))))))

.PHONY: unit
unit: $(unit_tests)
	@for test in $^; do $$test || exit 1; done

.PHONY: clean
clean:
	rm -rf build

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
