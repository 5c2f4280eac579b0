/* Cached derivatives of descriptors: sums over periodic images, and products with slopes. All read every derivative
   once, so that they run at the speed of memory.

   Letters: N atoms, E edges sorted by centre, P pairs of atoms sorted by centre, K columns, M = 3 or 6 components. */

#ifndef REAL

#include <stdint.h>
#include <stdlib.h>

/* first[a] .. first[a + 1]: the entries of atom a in a sorted list; NULL when out of memory. */
static int64_t *ranges(int64_t n_atoms, int64_t n, const int64_t *i) {
    int64_t *first = malloc(sizeof(int64_t) * (size_t)(n_atoms + 1));
    for (int64_t a = 0, e = 0; a <= n_atoms && first; a++) {
        while (e < n && i[e] < a) e++;
        first[a] = e;
    }
    return first;
}

#define GLUE2(a, b) a##b
#define GLUE(a, b) GLUE2(a, b)
#define NAME(x) GLUE(x, SUFFIX)

#define REAL double
#define SUFFIX _f64
#include "contract.c"
#undef REAL
#undef SUFFIX
#define REAL float
#define SUFFIX _f32
#include "contract.c"

#else

/* out[p, m] = sum_k d[p, m, k] slope[i[p], k], [P, M] */
int NAME(contract)(int64_t n_atoms, int64_t n_pairs, int64_t m, int64_t k, int n_threads, const int64_t *i,
                   const REAL *d, const REAL *slope, REAL *out) {
    (void)n_atoms;
#ifdef _OPENMP
#pragma omp parallel for schedule(static) num_threads(n_threads) if (n_threads > 1)
#endif
    for (int64_t p = 0; p < n_pairs; p++) {
        const REAL *g = slope + i[p] * k;
        for (int64_t c = 0; c < m; c++) {
            const REAL *row = d + (p * m + c) * k;
            REAL total = 0;
#pragma omp simd reduction(+ : total)
            for (int64_t q = 0; q < k; q++) total += row[q] * g[q];
            out[p * m + c] = total;
        }
    }
    return 0;
}

/* The transpose: slope[a, k] = sum over pairs p of a and m of d[p, m, k] weight[p, m], [N, K], zeroed by the caller. */
int NAME(contract_transposed)(int64_t n_atoms, int64_t n_pairs, int64_t m, int64_t k, int n_threads, const int64_t *i,
                              const REAL *d, const REAL *weight, REAL *slope) {
    int64_t *first = ranges(n_atoms, n_pairs, i);
    if (!first) return 1;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads(n_threads) if (n_threads > 1)
#endif
    for (int64_t a = 0; a < n_atoms; a++) {
        REAL *g = slope + a * k;
        for (int64_t row = first[a] * m; row < first[a + 1] * m; row++) {
            const REAL w = weight[row], *from = d + row * k;
#pragma omp simd
            for (int64_t q = 0; q < k; q++) g[q] += w * from[q];
        }
    }
    free(first);
    return 0;
}

/* From J = dG(i_e)/dr_e [E, K, 3]: pairs [P, 3, K] and strain [N, 6, K] of `evaluate.linearise`, zeroed by the caller.
   slot[e] is the pair of edge e, own[a] the pair of atom a with itself. */
int NAME(sum_images)(int64_t n_atoms, int64_t n_edges, int64_t k, int n_threads, const int64_t *i, const int64_t *slot,
                     const int64_t *own, const REAL *vectors, const REAL *jacobian, REAL *pairs, REAL *strain) {
    int64_t *first = ranges(n_atoms, n_edges, i);
    if (!first) return 1;
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 4) num_threads(n_threads) if (n_threads > 1)
#endif
    for (int64_t a = 0; a < n_atoms; a++) {
        REAL *self = pairs + own[a] * 3 * k, *s = strain + a * 6 * k;
        for (int64_t e = first[a]; e < first[a + 1]; e++) {
            const REAL *from = jacobian + e * k * 3, x = vectors[3 * e], y = vectors[3 * e + 1], z = vectors[3 * e + 2];
            REAL *to = pairs + slot[e] * 3 * k;
#pragma omp simd
            for (int64_t q = 0; q < k; q++) {
                const REAL jx = from[3 * q], jy = from[3 * q + 1], jz = from[3 * q + 2];
                to[q] += jx;
                to[k + q] += jy;
                to[2 * k + q] += jz;
                s[q] += jx * x;
                s[k + q] += jy * y;
                s[2 * k + q] += jz * z;
                s[3 * k + q] += (REAL)0.5 * (jy * z + jz * y);
                s[4 * k + q] += (REAL)0.5 * (jx * z + jz * x);
                s[5 * k + q] += (REAL)0.5 * (jx * y + jy * x);
            }
#pragma omp simd
            for (int64_t q = 0; q < k; q++) {
                self[q] -= from[3 * q];
                self[k + q] -= from[3 * q + 1];
                self[2 * k + q] -= from[3 * q + 2];
            }
        }
    }
    free(first);
    return 0;
}

/* From p_e = dE/dr_e: dE/dR [N, 3] and sum r_e p_e^T [S, 3, 3], zeroed by the caller. */
int NAME(sum_edges)(int64_t n_atoms, int64_t n_edges, const int64_t *i, const int64_t *j, const int64_t *system,
                    const REAL *vectors, const REAL *push, REAL *positions, REAL *strain) {
    (void)n_atoms;
    for (int64_t e = 0; e < n_edges;) {
        const int64_t a = i[e];
        REAL *own = positions + 3 * a, *s = strain + 9 * system[a], sum[3] = {0}, product[9] = {0};
        for (; e < n_edges && i[e] == a; e++) {
            const REAL *r = vectors + 3 * e, *p = push + 3 * e;
            REAL *other = positions + 3 * j[e];
            for (int x = 0; x < 3; x++) {
                other[x] += p[x];
                sum[x] += p[x];
                for (int y = 0; y < 3; y++) product[3 * x + y] += r[x] * p[y];
            }
        }
        for (int x = 0; x < 3; x++) own[x] -= sum[x];
        for (int x = 0; x < 9; x++) s[x] += product[x];
    }
    return 0;
}

#endif
