/* Products of cached descriptor derivatives with slopes, for training: read every derivative once, at the speed of
   memory. d [P, M, K], slope [N, K], out [P, M]: out[p, m] = sum_k d[p, m, k] slope[i_p, k], and its transpose. */

#ifndef REAL

#include <stdint.h>
#include <stdlib.h>

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

/* out [P, M] */
void NAME(contract)(int64_t n_pairs, int64_t m, int64_t k, const int64_t *i, int n_threads, const REAL *d,
                    const REAL *slope, REAL *out) {
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
}

/* slope [N, K], zeroed by the caller, from out [P, M]: first[a] .. first[a + 1] are the pairs of atom a. */
void NAME(contract_transposed)(int64_t n_atoms, int64_t m, int64_t k, const int64_t *first, int n_threads,
                               const REAL *d, const REAL *out, REAL *slope) {
#ifdef _OPENMP
#pragma omp parallel for schedule(dynamic, 8) num_threads(n_threads) if (n_threads > 1)
#endif
    for (int64_t a = 0; a < n_atoms; a++) {
        REAL *g = slope + a * k;
        for (int64_t row = first[a] * m; row < first[a + 1] * m; row++) {
            const REAL weight = out[row], *from = d + row * k;
#pragma omp simd
            for (int64_t q = 0; q < k; q++) g[q] += weight * from[q];
        }
    }
}

#endif
