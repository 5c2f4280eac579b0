"""Reference energies, forces and stresses from engines that run in processes of their own."""
