// SPDX-License-Identifier: GPL-3.0-or-later
/* Stands in for NVIDIA's module of unified memory: its device number. */
#include <linux/fs.h>
#include <linux/module.h>

static const struct file_operations nodes = { .owner = THIS_MODULE };

static int __init start(void)
{
	return register_chrdev(235, "nvidia-uvm", &nodes);
}

static void __exit stop(void)
{
	unregister_chrdev(235, "nvidia-uvm");
}

module_init(start);
module_exit(stop);
MODULE_DESCRIPTION("Stands in for NVIDIA's module of unified memory");
MODULE_SOFTDEP("pre: nvidia-current");
MODULE_LICENSE("GPL");
