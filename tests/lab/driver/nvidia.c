// SPDX-License-Identifier: GPL-3.0-or-later
/* Stands in for NVIDIA's kernel module: its version, its device number, its PCI driver. */
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/proc_fs.h>
#include <linux/seq_file.h>

static const struct pci_device_id ids[] = {
	{ PCI_DEVICE(0x10de, PCI_ANY_ID), .class = PCI_CLASS_DISPLAY_VGA << 8, .class_mask = ~0 },
	{}
};
static const struct file_operations nodes = { .owner = THIS_MODULE };

static int probe(struct pci_dev *device, const struct pci_device_id *id)
{
	return 0;
}

static struct pci_driver driver = { .name = "nvidia", .id_table = ids, .probe = probe };

static int version(struct seq_file *file, void *data)
{
	seq_puts(file, "NVRM version: NVIDIA UNIX x86_64 Kernel Module  " VERSION "  stand-in\n");
	return 0;
}

static int __init start(void)
{
	proc_mkdir("driver/nvidia", NULL);
	proc_create_single("driver/nvidia/version", 0444, NULL, version);
	return register_chrdev(195, "nvidia", &nodes) ?: pci_register_driver(&driver);
}

static void __exit stop(void)
{
	pci_unregister_driver(&driver);
	unregister_chrdev(195, "nvidia");
	remove_proc_subtree("driver/nvidia", NULL);
}

module_init(start);
module_exit(stop);
MODULE_DEVICE_TABLE(pci, ids);
MODULE_DESCRIPTION("Stands in for NVIDIA's kernel module");
MODULE_VERSION(VERSION);
MODULE_LICENSE("GPL");
