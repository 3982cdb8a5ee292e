// SPDX-License-Identifier: GPL-3.0-or-later
/* A PCI bus with one device that identifies itself as a GeForce RTX 4090 and has no registers. */
#include <linux/module.h>
#include <linux/pci.h>

#define BUS 0xc0

static const u8 config[64] = {
	[PCI_VENDOR_ID] = 0xde, 0x10, 0x84, 0x26,
	[PCI_CLASS_DEVICE] = 0x00, 0x03,
	[PCI_SUBSYSTEM_VENDOR_ID] = 0xde, 0x10, 0x84, 0x26,
};
static struct pci_sysdata sysdata = { .domain = 1, .node = NUMA_NO_NODE };
static struct resource numbers = { .name = "fake_gpu", .start = BUS, .end = BUS, .flags = IORESOURCE_BUS };
static struct pci_bus *bus;

static int fake_read(struct pci_bus *from, unsigned int devfn, int where, int size, u32 *value)
{
	if (from->number != BUS || devfn) {
		*value = ~0;
		return PCIBIOS_DEVICE_NOT_FOUND;
	}
	*value = 0;
	if (where + size <= sizeof(config))
		memcpy(value, config + where, size);
	return PCIBIOS_SUCCESSFUL;
}

static int fake_write(struct pci_bus *to, unsigned int devfn, int where, int size, u32 value)
{
	return PCIBIOS_SUCCESSFUL;
}

static struct pci_ops ops = { .read = fake_read, .write = fake_write };

static int __init fake_init(void)
{
	LIST_HEAD(resources);

	pci_add_resource(&resources, &numbers);
	bus = pci_scan_root_bus(NULL, BUS, &ops, &sysdata, &resources);
	if (!bus)
		return -ENODEV;
	pci_bus_add_devices(bus);
	return 0;
}

module_init(fake_init);
MODULE_DESCRIPTION("A GPU without registers, for tests of drivers' installation");
MODULE_LICENSE("GPL");
