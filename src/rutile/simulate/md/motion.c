/* Sums over moving atoms that every time step asks for. */

#include <math.h>
#include <stdint.h>

/* half sum of m v^2 over the atoms of each system: system [N], mass m [N], velocities v [N, 3] -> kinetic [S]. */
void kinetic_energies(int64_t n, int64_t n_systems, const int64_t *system, const double *m, const double *v,
                      double *kinetic) {
    for (int64_t s = 0; s < n_systems; s++) kinetic[s] = 0;
    for (int64_t a = 0; a < n; a++) {
        const double *u = v + 3 * a;
        kinetic[system[a]] += 0.5 * m[a] * (u[0] * u[0] + u[1] * u[1] + u[2] * u[2]);
    }
}

/* The largest v^2 of velocities v [N, 3]; NaN if one is not a number. */
double largest_square(int64_t n, const double *v) {
    double most = 0;
    for (int64_t a = 0; a < n; a++) {
        const double *u = v + 3 * a;
        double square = u[0] * u[0] + u[1] * u[1] + u[2] * u[2];
        most = square <= most ? most : square;
        if (isnan(most)) break;
    }
    return most;
}
