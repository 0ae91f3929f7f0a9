/* SPDX-License-Identifier: Apache-2.0 */
#include "oci/setup.h"

#include <stdlib.h>
#include <string.h>

static void wire_groups(struct wire *wire, struct process *process)
{
	process->group_count = wire_count(wire, process->group_count, WIRE_TEXTS_MAX);
	if (!wire->writing) {
		process->groups = calloc(process->group_count + 1UL, sizeof(*process->groups));
		wire->bad = wire->bad || !process->groups;
	}
	for (uint32_t i = 0; i < process->group_count && process->groups; i++)
		wire_u32(wire, &process->groups[i]);
}

void wire_process(struct wire *wire, struct process *process)
{
	wire_texts(wire, &process->args);
	wire_texts(wire, &process->env);
	wire_text(wire, &process->cwd);
	wire_u32(wire, &process->uid);
	wire_u32(wire, &process->gid);
	wire_u32(wire, &process->mask);
	wire_groups(wire, process);
	wire_bool(wire, &process->terminal);
	wire_bool(wire, &process->no_new_privileges);
	wire_u32(wire, &process->rows);
	wire_u32(wire, &process->columns);
	for (unsigned i = 0; i < SETUP_CAP_SETS; i++)
		wire_u64(wire, &process->capabilities[i]);
	process->limit_count = wire_count(wire, process->limit_count, SETUP_LIMITS_MAX);
	for (uint32_t i = 0; i < process->limit_count; i++) {
		wire_u32(wire, &process->limits[i].resource);
		wire_u64(wire, &process->limits[i].soft);
		wire_u64(wire, &process->limits[i].hard);
	}
	wire_bool(wire, &process->has_oom_score);
	wire_u32(wire, &process->oom_score);
	/* What cannot be left out. */
	if (!wire->writing && (!process->args.count || !process->cwd))
		wire->bad = true;
}

static void wire_mount(struct wire *wire, struct mount *mount)
{
	wire_text(wire, &mount->destination);
	wire_u32(wire, &mount->kind);
	wire_text(wire, &mount->type);
	wire_text(wire, &mount->source);
	wire_text(wire, &mount->data);
	wire_u64(wire, &mount->flags);
	wire_u32(wire, &mount->propagation);
	wire_u32(wire, &mount->port);
	wire_bool(wire, &mount->is_file);
	wire_blob(wire, &mount->content);
	wire_u32(wire, &mount->mode);
	wire_u32(wire, &mount->uid);
	wire_u32(wire, &mount->gid);
	if (!wire->writing && (!mount->destination || mount->kind >= MOUNT_KINDS))
		wire->bad = true;
}

static void wire_mounts(struct wire *wire, struct setup *setup)
{
	const uint32_t count = wire_count(wire, setup->mount_count, SETUP_MOUNTS_MAX);

	if (!wire->writing) {
		setup->mount_count = 0;
		setup->mounts = calloc(count + 1UL, sizeof(*setup->mounts));
		wire->bad = wire->bad || !setup->mounts;
	}
	for (uint32_t i = 0; i < count && !wire->bad; i++) {
		wire_mount(wire, &setup->mounts[i]);
		if (!wire->writing)
			setup->mount_count++;
	}
}

static void wire_address(struct wire *wire, struct address *address)
{
	uint64_t half;

	wire_u32(wire, &address->family);
	wire_u32(wire, &address->prefix);
	for (unsigned i = 0; i < sizeof(address->bytes); i += sizeof(half)) {
		memcpy(&half, address->bytes + i, sizeof(half));
		wire_u64(wire, &half);
		memcpy(address->bytes + i, &half, sizeof(half));
	}
	if (address->prefix > 128)
		wire->bad = true;
}

static void wire_link(struct wire *wire, struct link *link)
{
	wire_text(wire, &link->name);
	wire_u64(wire, &link->mac);
	wire_u32(wire, &link->mtu);
	link->address_count = wire_count(wire, link->address_count, LINK_ADDRESSES_MAX);
	for (uint32_t i = 0; i < link->address_count; i++)
		wire_address(wire, &link->addresses[i]);
	link->route_count = wire_count(wire, link->route_count, LINK_ROUTES_MAX);
	for (uint32_t i = 0; i < link->route_count; i++) {
		wire_address(wire, &link->routes[i].to);
		wire_address(wire, &link->routes[i].via);
		wire_u32(wire, &link->routes[i].metric);
	}
	if (!wire->writing && (!link->name || strlen(link->name) >= LINK_NAME_SIZE))
		wire->bad = true;
}

void wire_setup(struct wire *wire, struct setup *setup)
{
	wire_text(wire, &setup->hostname);
	wire_text(wire, &setup->domainname);
	wire_bool(wire, &setup->root_readonly);
	wire_text(wire, &setup->root_type);
	wire_u32(wire, &setup->propagation);
	wire_mounts(wire, setup);
	wire_texts(wire, &setup->masked);
	wire_texts(wire, &setup->readonly);
	wire_texts(wire, &setup->sysctl);
	setup->link_count = wire_count(wire, setup->link_count, SETUP_LINKS_MAX);
	for (uint32_t i = 0; i < setup->link_count; i++)
		wire_link(wire, &setup->links[i]);
	wire_u64(wire, &setup->memory);
	wire_u64(wire, &setup->pids);
	wire_process(wire, &setup->process);
	if (!wire->writing && (!setup->root_type || setup->sysctl.count % 2))
		wire->bad = true;
}

void wire_usage(struct wire *wire, struct usage *usage)
{
	wire_u64(wire, &usage->cpu_ns);
	wire_u64(wire, &usage->user_ns);
	wire_u64(wire, &usage->system_ns);
	wire_u64(wire, &usage->memory);
	wire_u64(wire, &usage->memory_peak);
	wire_u64(wire, &usage->memory_limit);
	wire_u64(wire, &usage->pids);
	wire_u64(wire, &usage->pids_limit);
}

void wire_listing(struct wire *wire, struct listing *listing)
{
	const uint32_t count = wire_count(wire, listing->count, LISTING_MAX);

	if (!wire->writing) {
		listing->count = 0;
		listing->items = calloc(count + 1UL, sizeof(*listing->items));
		wire->bad = wire->bad || !listing->items;
	}
	for (uint32_t i = 0; i < count && !wire->bad; i++) {
		wire_u32(wire, &listing->items[i].pid);
		wire_u32(wire, &listing->items[i].uid);
		wire_text(wire, &listing->items[i].command);
		if (!wire->writing)
			listing->count++;
		wire->bad = wire->bad || !listing->items[i].command;
	}
}

void listing_free(struct listing *listing)
{
	for (uint32_t i = 0; i < listing->count; i++)
		free(listing->items[i].command);
	free(listing->items);
	*listing = (struct listing){0};
}

void process_free(struct process *process)
{
	texts_free(&process->args);
	texts_free(&process->env);
	free(process->cwd);
	free(process->groups);
	*process = (struct process){0};
}

static void mount_free(struct mount *mount)
{
	free(mount->destination);
	free(mount->type);
	free(mount->source);
	free(mount->data);
	free(mount->content.bytes);
}

void setup_free(struct setup *setup)
{
	for (uint32_t i = 0; i < setup->mount_count; i++)
		mount_free(&setup->mounts[i]);
	free(setup->mounts);
	for (uint32_t i = 0; i < setup->link_count; i++)
		free(setup->links[i].name);
	free(setup->hostname);
	free(setup->domainname);
	free(setup->root_type);
	texts_free(&setup->masked);
	texts_free(&setup->readonly);
	texts_free(&setup->sysctl);
	process_free(&setup->process);
	*setup = (struct setup){0};
}
