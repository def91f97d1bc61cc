//! Both disks behave alike where nothing goes wrong.
