/* Behler-Parrinello symmetry functions: values, and their products with derivatives, one centre at a time.

   J. Behler, J. Chem. Phys. 134, 074106 (2011), doi:10.1063/1.3553717. What is computed, and in which conventions, is
   told by symmetry.py and symmetry_eager.py; this file only does it fast. symmetry_native.py builds the plan (below)
   and calls the functions at the end.

   How it is fast. The neighbours of a centre are laid out by species, each block padded to whole vectors of VL lanes.
   For each neighbour j, a vector of neighbours k at a time, those triplets (j, k) that count are squeezed into a buffer
   (`gather`); a full buffer is worked on in whole vectors (`sweep`). With c = cos(theta),
       G4 = sum_{jk} sum_e A_e(j) A_e(k) exp(-eta_e r_jk^2) fc(r_jk) . P_p(c),   P_p = 2 ((1 + lambda c) / 2)^zeta,
   so that each triplet needs one exponential for each distinct eta, one power for each distinct (lambda, zeta), and one
   multiply-add for each pair of them. Derivatives use the invariants r_j, r_k and d = r_j . r_k:
       dE/dr_j = U_j r_j + D r_k,  U_j = (dE/dr_j) / r_j,  D = dE/dd.

   This file includes itself twice, for double and for float. Lengths in Angstrom. Letters: N centres, E edges sorted by
   centre, K columns. */

#ifndef REAL

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
#define INLINE static inline __attribute__((always_inline))

enum { VALUES, VJP, JVP, JACOBIAN, VJPS };        /* what an entry point computes */
enum { COSINE, TANH3, POLYNOMIAL, EXPONENTIAL };  /* cutoff functions */

/* The plan of a table: what symmetry_native.py wrote into one stream of integers and one of reals. */
typedef struct {
    int species, n;
    const int64_t *column;
    const double *eta, *shift;
} Radial;

typedef struct {
    int a, b, has_rjk, n_eta, n_power, tame; /* n_power is even; tame: eta r_jk^2 is never large */
    double shift;
    const int64_t *factor;       /* [n_eta] row of the shell's factors */
    const double *eta;           /* [n_eta] */
    const int64_t *square_of;    /* [n_power] an earlier power whose zeta is half, or -1 */
    const int64_t *whole;        /* [n_power] zeta where it is a positive integer, else 0 */
    const double *lambda, *zeta; /* [n_power] */
    const int64_t *column;       /* [n_eta][n_power] -1: no such function */
} Angular;

typedef struct {
    double cutoff;
    int n_radial, n_factor, n_angular;
    Radial *radial;
    const double *eta, *shift; /* [n_factor] exp(-eta (r - shift)^2) fc(r) of each neighbour */
    Angular *angular;
} Shell; /* functions of one centre element with one cutoff */

typedef struct {
    int n_shell;
    Shell *shell;
} Centre;

typedef struct {
    int n_centre, n_species, max_factor, max_eta, max_power;
    const int64_t *centre_of, *species_of; /* [119] of an atomic number, -1: none */
    int kind;
    double a, b, norm; /* of the cutoff function */
    Centre *centre;
    void *memory;
} Plan;

static void free_plan(Plan *p) {
    free(p->memory);
}

/* 0 when out of memory. The structs live in one block whose size is bounded by the length of the streams. */
static int read_plan(Plan *p, const int64_t *ints, int64_t n_ints, const double *reals) {
    const int64_t *i = ints;
    const double *r = reals;
    char *free_at = p->memory = calloc((size_t)n_ints + 1, sizeof(Angular));
    if (!free_at) return 0;
#define TAKE(type, n) (type *)free_at; free_at += sizeof(type) * (size_t)(n)
    p->kind = (int)*i++;
    p->a = *r++, p->b = *r++, p->norm = *r++;
    p->n_species = (int)*i++;
    p->centre_of = i, i += 119;
    p->species_of = i, i += 119;
    p->n_centre = (int)*i++;
    p->max_factor = p->max_eta = p->max_power = 0;
    p->centre = TAKE(Centre, p->n_centre);
    for (int c = 0; c < p->n_centre; c++) {
        Centre *centre = &p->centre[c];
        centre->n_shell = (int)*i++;
        centre->shell = TAKE(Shell, centre->n_shell);
        for (int s = 0; s < centre->n_shell; s++) {
            Shell *shell = &centre->shell[s];
            shell->cutoff = *r++;
            shell->n_radial = (int)*i++;
            shell->n_factor = (int)*i++;
            shell->n_angular = (int)*i++;
            shell->radial = TAKE(Radial, shell->n_radial);
            for (int g = 0; g < shell->n_radial; g++) {
                Radial *radial = &shell->radial[g];
                radial->species = (int)*i++;
                radial->n = (int)*i++;
                radial->column = i, i += radial->n;
                radial->eta = r, r += radial->n;
                radial->shift = r, r += radial->n;
            }
            shell->eta = r, r += shell->n_factor;
            shell->shift = r, r += shell->n_factor;
            if (shell->n_factor > p->max_factor) p->max_factor = shell->n_factor;
            shell->angular = TAKE(Angular, shell->n_angular);
            for (int g = 0; g < shell->n_angular; g++) {
                Angular *angular = &shell->angular[g];
                angular->a = (int)*i++, angular->b = (int)*i++, angular->has_rjk = (int)*i++;
                angular->n_eta = (int)*i++, angular->n_power = (int)*i++, angular->tame = (int)*i++;
                angular->shift = *r++;
                angular->factor = i, i += angular->n_eta;
                angular->eta = r, r += angular->n_eta;
                angular->square_of = i, i += angular->n_power;
                angular->whole = i, i += angular->n_power;
                angular->lambda = r, r += angular->n_power;
                angular->zeta = r, r += angular->n_power;
                angular->column = i, i += angular->n_eta * angular->n_power;
                if (angular->n_eta > p->max_eta) p->max_eta = angular->n_eta;
                if (angular->n_power > p->max_power) p->max_power = angular->n_power;
            }
        }
    }
#undef TAKE
    return 1;
}

/* tanh(y) / y in powers of y^2, minimax on [0, 1]: for double, and for float. */
static const double TANH[16] = {
    0.9999999999999999883, -0.3333333333333273312, 0.1333333333328211196, -0.05396825395091773006,
    0.02186948822693083932, -0.008863232181130273887, 0.003592104115230281012, -0.001455715590779280104,
    0.0005896028950856165463, -0.0002380123632347990508, 0.00009472256075732065375, -0.00003603918536997381763,
    0.00001230680529534998287, -3.402993826979274008e-6, 6.496857637862530933e-7, -6.206753305453650019e-8};
static const double TANH_SHORT[8] = {0.9999999956, -0.3333327738, 0.1333213931, -0.05386970672,
                                     0.02146141016, -0.007912485059, 0.002278647665, -0.0003523280944};

/* Entry of an atomic number; -1 also for what is none. */
static inline int64_t look_up(const int64_t *table, int64_t number) {
    return number >= 0 && number < 119 ? table[number] : -1;
}

#define GLUE2(a, b) a##b
#define GLUE(a, b) GLUE2(a, b)
#define NAME(x) GLUE(x, SUFFIX)

#define REAL double
#define INT int64_t
#define SUFFIX _f64
#define MAGIC 6755399441055744.0
#define MANTISSA 52
#define LOWEST -708.0
#define HIGHEST 709.0
#define TINY 1e-300
#ifdef __AVX512F__
#define X86(name) _mm512_##name##_pd
#define X86_MASK __mmask8
#define X86_UNLESS_GE(a, b) _mm512_cmp_pd_mask(a, b, _CMP_NGE_UQ)
#endif
#include "symmetry.c"
#undef X86
#undef X86_MASK
#undef X86_UNLESS_GE
#undef REAL
#undef INT
#undef SUFFIX
#undef MAGIC
#undef MANTISSA
#undef LOWEST
#undef HIGHEST
#undef TINY

#define REAL float
#define INT int32_t
#define SUFFIX _f32
#define MAGIC 12582912.0f
#define MANTISSA 23
#define LOWEST -87.0f
#define HIGHEST 88.0f
#define TINY 1e-36f
#ifdef __AVX512F__
#define X86(name) _mm512_##name##_ps
#define X86_MASK __mmask16
#define X86_UNLESS_GE(a, b) _mm512_cmp_ps_mask(a, b, _CMP_NGE_UQ)
#endif
#include "symmetry.c"

#else /* ------------------------------------------------------------- the template, for one REAL */

#define VL ((int)(BYTES / sizeof(REAL)))
#define vec NAME(vec)
#define ivec NAME(ivec)
#define Work NAME(Work)
typedef REAL vec __attribute__((vector_size(BYTES)));
typedef INT ivec __attribute__((vector_size(BYTES)));

INLINE vec NAME(splat)(REAL a) { return a + (vec){0}; }
INLINE vec NAME(load)(const REAL *p) { return *(const vec *)p; }
INLINE void NAME(store)(REAL *p, vec v) { *(vec *)p = v; }
INLINE vec NAME(keep)(ivec mask, vec v) { return (vec)(mask & (ivec)v); }
INLINE vec NAME(choose)(ivec mask, vec yes, vec no) { return (vec)((mask & (ivec)yes) | (~mask & (ivec)no)); }
#ifdef X86
INLINE REAL NAME(sum)(vec v) { return X86(reduce_add)(v); }
INLINE vec NAME(root)(vec v) { return (vec)X86(sqrt)(v); }
INLINE vec NAME(at_least)(vec v, REAL low) { return (vec)X86(max)(NAME(splat)(low), v); } /* NaN stays */
INLINE uint32_t NAME(unless_ge)(vec a, vec b) { return (uint32_t)X86_UNLESS_GE(a, b); }
/* The lanes of v whose bits are set go to to[0], to[1], ...; what follows them is overwritten. */
INLINE void NAME(squeeze)(REAL *to, uint32_t bits, vec v) { X86(storeu)(to, X86(maskz_compress)((X86_MASK)bits, v)); }
/* The inverse; the other lanes are 0. */
INLINE vec NAME(spread)(uint32_t bits, const REAL *from) {
    return (vec)X86(maskz_expand)((X86_MASK)bits, X86(loadu)(from));
}
#else
INLINE REAL NAME(sum)(vec v) {
    REAL s = 0;
    for (int l = 0; l < VL; l++) s += v[l];
    return s;
}
INLINE vec NAME(root)(vec v) {
    REAL x[VL] __attribute__((aligned(BYTES)));
    *(vec *)x = v;
    for (int l = 0; l < VL; l++) x[l] = sizeof(REAL) == 8 ? (REAL)sqrt(x[l]) : (REAL)sqrtf((float)x[l]);
    return *(vec *)x;
}
INLINE vec NAME(at_least)(vec v, REAL low) { return NAME(choose)(v < low, NAME(splat)(low), v); }
INLINE uint32_t NAME(unless_ge)(vec a, vec b) {
    ivec mask = a >= b;
    uint32_t bits = 0;
    for (int l = 0; l < VL; l++) bits |= (uint32_t)(mask[l] == 0) << l;
    return bits;
}
INLINE void NAME(squeeze)(REAL *to, uint32_t bits, vec v) {
    for (int l = 0, n = 0; l < VL; l++) {
        to[n] = v[l];
        n += bits >> l & 1;
    }
}
INLINE vec NAME(spread)(uint32_t bits, const REAL *from) {
    vec v = {0};
    for (int l = 0, n = 0; l < VL; l++)
        if (bits >> l & 1) v[l] = from[n++];
    return v;
}
#endif

/* e^x to about 1 ulp; NaN stays NaN. Below LOWEST it is a number as good as 0; tame promises that x is not there. */
INLINE vec NAME(exponential)(vec x, int tame) {
    if (!tame) {
        x = NAME(at_least)(x, (REAL)LOWEST);
        x = NAME(choose)(x > (REAL)HIGHEST, NAME(splat)((REAL)HIGHEST), x);
    }
    vec shifted = x * (REAL)1.4426950408889634 + (REAL)MAGIC;
    vec n = shifted - (REAL)MAGIC, p;
    if (sizeof(REAL) == 8) {
        vec t = x - n * (REAL)6.93147180369123816490e-01;
        t = t - n * (REAL)1.90821492927058770002e-10;
        vec t2 = t * t, t4 = t2 * t2;
        vec low = ((REAL)1 + t) + t2 * ((REAL)0.500000000000001857 + (REAL)0.1666666666666668095 * t);
        vec mid = ((REAL)0.04166666666648666122 + (REAL)0.008333333333319490318 * t)
                  + t2 * ((REAL)0.001388888895269651566 + (REAL)0.000198412698903406653 * t);
        vec top = ((REAL)0.0000248014850741051167 + (REAL)2.755724060466389582e-6 * t)
                  + t2 * ((REAL)2.763279054211718101e-7 + (REAL)2.51101536469289314e-8 * t);
        p = low + t4 * (mid + t4 * top);
    } else {
        vec t = x - n * (REAL)0.693359375f;
        t = t - n * (REAL)-2.12194440e-4f;
        vec t2 = t * t;
        vec top = ((REAL)0.04166635164f + (REAL)0.008375210201f * t) + t2 * (REAL)0.00139412131f;
        p = ((REAL)1 + t) + t2 * ((REAL)0.5000000047f + (REAL)0.1666641451f * t + t2 * top);
    }
    return (vec)((ivec)p + ((ivec)shifted << MANTISSA));
}

/* The cutoff function f(r) and its derivative df / d(r^2), where r < cutoff; elsewhere meaningless, but finite. */
INLINE void NAME(cutoff)(const Plan *plan, double cutoff, vec r2, vec *f, vec *df) {
    const REAL inverse2 = (REAL)(1 / (cutoff * cutoff)), square = (REAL)(cutoff * cutoff);
    if (plan->kind == COSINE) { /* f = y^2 h(y), df/dz = -y k(y), y = 1 - z: both entire in y, minimax on [0, 1] */
        vec y = (square - r2) * inverse2, h, k;
        if (sizeof(REAL) == 8) {
            vec y2 = y * y, y4 = y2 * y2;
            h = (((REAL)0.6168502750680849125 + (REAL)0.3084251375340426893 * y)
                 + y2 * ((REAL)0.06593095700824486004 + (REAL)0.008101243720717655468 * y))
                + y4 * ((((REAL)0.000653328927688823032 + (REAL)0.00003740088249041660221 * y)
                         + y2 * ((REAL)1.602057633204481918e-6 + (REAL)5.335209222652131089e-8 * y))
                        + y4 * ((REAL)1.415045042519902345e-9 + (REAL)3.396016833111467707e-11 * y));
            k = (((REAL)1.233700550136169813 + (REAL)0.9252754126021301781 * y)
                 + y2 * ((REAL)0.2637238280329175039 + (REAL)0.04050621860428232462 * y))
                + y4 * ((((REAL)0.003919973562264395946 + (REAL)0.0002618061894729374098 * y)
                         + y2 * ((REAL)0.00001281643916750382813 + (REAL)4.801919380001638145e-7 * y))
                        + y4 * ((REAL)1.413735259443878131e-8 + (REAL)3.76644388685902438e-10 * y));
        } else {
            vec y2 = y * y;
            h = ((REAL)0.6168502742f + (REAL)0.3084251997f * y)
                + y2 * (((REAL)0.06593023291f + (REAL)0.008104318206f * y)
                        + y2 * ((REAL)0.0006474544637f + (REAL)4.251957443e-5f * y));
            k = ((REAL)1.233700543f + (REAL)0.9252759165f * y)
                + y2 * (((REAL)0.2637179649f + (REAL)0.04053109847f * y)
                        + y2 * ((REAL)0.003872488959f + (REAL)0.0003030810311f * y));
        }
        *f = y * y * h;
        *df = -inverse2 * y * k;
        return;
    }
    vec r = NAME(root)(r2), y = ((REAL)cutoff - r) * (REAL)(1 / cutoff), x = (REAL)1 - y;
    vec slope = (REAL)(0.5 / cutoff) / r; /* d/d(r^2) = slope d/dx */
    if (plan->kind == TANH3) {            /* norm tanh^3(y) */
        const int top = sizeof(REAL) == 8 ? 14 : 6;
        const double *of = sizeof(REAL) == 8 ? TANH : TANH_SHORT;
        vec w = y * y, w2 = w * w, even = NAME(splat)((REAL)of[top]), odd = NAME(splat)((REAL)of[top + 1]);
        for (int m = top - 2; m >= 0; m -= 2) {
            even = even * w2 + (REAL)of[m];
            odd = odd * w2 + (REAL)of[m + 1];
        }
        vec t = y * (even + w * odd);
        *f = (REAL)plan->norm * t * t * t;
        *df = (REAL)(-3 * plan->norm) * t * t * ((REAL)1 - t * t) * slope;
    } else if (plan->kind == EXPONENTIAL) { /* exp(-x^2 / (1 - x^2)) */
        vec q = (REAL)1 / (y * ((REAL)1 + x));
        *f = NAME(exponential)(-x * x * q, 0);
        *df = (REAL)-2 * x * q * q * *f * slope;
    } else { /* y^a sum_{m<b} C(m+a-1, m) x^m, whose derivative in x is -norm x^(b-1) y^(a-1) */
        const int a = (int)plan->a, b = (int)plan->b;
        vec power = NAME(splat)(1), series = NAME(splat)(1), high = NAME(splat)(1);
        REAL binomial = 1;
        for (int m = 1; m < b; m++) {
            power *= x;
            binomial *= (REAL)(m + a - 1) / (REAL)m;
            series += binomial * power;
        }
        for (int m = 1; m < a; m++) high *= y;
        *f = high * y * series;
        *df = (REAL)-plan->norm * power * high * slope;
    }
}

/* P_p(c) = 2 x^zeta with x = (1 + lambda c) / 2, and its derivative lambda zeta x^(zeta - 1). */
INLINE void NAME(powers)(const Angular *g, int n_power, vec c, vec *power, vec *slope) {
    for (int p = 0; p < n_power; p++) {
        const int64_t half = g->square_of[p], whole = g->whole[p];
        if (half >= 0) {
            slope[p] = power[half] * slope[half];
            power[p] = (REAL)0.5 * power[half] * power[half];
            continue;
        }
        const REAL lambda = (REAL)g->lambda[p];
        vec x = NAME(at_least)((REAL)0.5 + (REAL)0.5 * lambda * c, 0), lower = NAME(splat)(1), square = x;
        if (whole == 1) {
            power[p] = (REAL)2 * x;
            slope[p] = NAME(splat)(lambda);
            continue;
        }
        for (int64_t n = whole - 1; n > 0; n >>= 1) {
            if (n & 1) lower *= square;
            if (n > 1) square *= square;
        }
        for (int l = 0; l < VL && !whole; l++) lower[l] = x[l] == 0 ? 0 : (REAL)pow((double)x[l], g->zeta[p] - 1);
        power[p] = (REAL)2 * lower * x;
        slope[p] = lambda * (REAL)g->zeta[p] * lower;
    }
}

#define FULL 128 /* triplets after which the buffer is worked on */

/* The neighbours of one centre inside one shell, by species; the buffer of triplets; and what is summed. */
typedef struct {
    int *start, *stop;                                /* [species] block; each begins at a whole vector */
    int length;                                       /* of the arrays of neighbours, whole vectors */
    int64_t *edge;                                    /* edge of each neighbour; -1: padding */
    REAL *x, *y, *z, *inverse, *f, *slope;            /* r_ij, 1/r, fc(r), (dfc/dr) / (r fc) */
    REAL *factor;                                     /* [max_factor][room] */
    REAL *ux, *uy, *uz, *along;                       /* JVP: tangent u of r_ij, and u . r_ij */
    REAL *sum_u, *sum_x, *sum_y, *sum_z;              /* VJP: the gradient is sum_u r_ij + (sum_x, sum_y, sum_z) */
    int n, n_span;                                    /* of the buffer: triplets, and the vectors they came from */
    int *span_j, *span_k, *span_first;                /* neighbour j, first neighbour k, first triplet */
    uint32_t *span_bits;                              /* which k */
    REAL *c, *rjk2, *amplitude;                       /* triplets: cos, r_jk^2, A_e(j) A_e(k) [max_eta] */
    REAL *alpha, *beta, *gamma, *delta;               /* JVP: see `gather` */
    REAL *s0, *s1, *sc, *st;                          /* VJP: see `sweep` */
    REAL *xk, *yk, *zk, *inverse_k;                   /* JACOBIAN */
    REAL *power, *d_power, *cut, *d_cut, *m;          /* powers [max_power]; of `opposite` */
    vec *value;                                       /* [max_eta][max_power] */
    vec *local;                                       /* [2][max_power] */
    REAL *weight;                                     /* [max_eta][max_power] dE/dG */
    REAL *rows;                                       /* VJPS: values and Jacobian of a centre, [columns][1 + 3 degree] */
    int64_t members;                                  /* VJPS: cotangents side by side, whole vectors */
    size_t room, line;                                /* lengths of an array of neighbours, of triplets */
    void *memory;
} Work;

/* Hands out pieces of one block of memory; with no block it only counts. */
static void *NAME(take)(char *memory, size_t *used, size_t n, size_t size) {
    void *at = memory ? memory + *used : NULL;
    *used += (n * size + 63) / 64 * 64;
    return at;
}

static void NAME(lay_out)(Work *w, const Plan *p, size_t rows, char *memory, size_t *used) {
    const size_t spans = FULL + w->room, products = (size_t)p->max_eta * (size_t)p->max_power + 1;
    const size_t powers = (size_t)p->max_power + 1;
#define TAKE(field, n) w->field = NAME(take)(memory, used, n, sizeof(*w->field))
    TAKE(start, (size_t)p->n_species + 1), TAKE(stop, (size_t)p->n_species + 1), TAKE(edge, w->room);
    TAKE(x, w->room), TAKE(y, w->room), TAKE(z, w->room), TAKE(inverse, w->room), TAKE(f, w->room);
    TAKE(slope, w->room), TAKE(factor, w->room * ((size_t)p->max_factor + 1));
    TAKE(ux, w->room), TAKE(uy, w->room), TAKE(uz, w->room), TAKE(along, w->room);
    TAKE(sum_u, w->room), TAKE(sum_x, w->room), TAKE(sum_y, w->room), TAKE(sum_z, w->room);
    TAKE(span_j, spans), TAKE(span_k, spans), TAKE(span_first, spans), TAKE(span_bits, spans);
    TAKE(c, w->line), TAKE(rjk2, w->line), TAKE(amplitude, w->line * ((size_t)p->max_eta + 1));
    TAKE(alpha, w->line), TAKE(beta, w->line), TAKE(gamma, w->line), TAKE(delta, w->line);
    TAKE(s0, w->line), TAKE(s1, w->line), TAKE(sc, w->line), TAKE(st, w->line);
    TAKE(xk, w->line), TAKE(yk, w->line), TAKE(zk, w->line), TAKE(inverse_k, w->line);
    TAKE(power, w->line * powers), TAKE(d_power, w->line * powers), TAKE(cut, w->line), TAKE(d_cut, w->line);
    TAKE(m, w->line);
    TAKE(value, products), TAKE(local, 2 * powers), TAKE(weight, products), TAKE(rows, rows);
#undef TAKE
}

/* 0 when out of memory. */
static int NAME(new_work)(Work *w, const Plan *p, int64_t max_degree, int64_t columns, int64_t members) {
    size_t size = 0, used = 0, rows = members ? (size_t)(columns * (3 * max_degree + 1)) : 0;
    w->members = members;
    w->room = ((size_t)max_degree + (size_t)(p->n_species + 1) * (size_t)VL + (size_t)VL - 1) / (size_t)VL * (size_t)VL;
    w->line = FULL + w->room + 2 * (size_t)VL;
    w->line = (w->line + (size_t)VL - 1) / (size_t)VL * (size_t)VL;
    NAME(lay_out)(w, p, rows, NULL, &size);
    w->memory = aligned_alloc(64, size);
    if (!w->memory) return 0;
    memset(w->memory, 0, size);
    NAME(lay_out)(w, p, rows, w->memory, &used);
    return 1;
}

/* Lay out the neighbours r < cutoff (a NaN counts as one, so that it is not lost). */
INLINE void NAME(fill)(int mode, Work *w, const Plan *plan, const Shell *shell, int64_t first, int64_t last,
                       const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *tangent) {
    const REAL square = (REAL)(shell->cutoff * shell->cutoff);
    for (int s = 0; s < plan->n_species; s++) w->stop[s] = 0;
    for (int64_t e = first; e < last; e++) {
        const REAL *v = vectors + 3 * e;
        int64_t s = look_up(plan->species_of, numbers[neighbor[e]]);
        if (s >= 0 && !(v[0] * v[0] + v[1] * v[1] + v[2] * v[2] >= square)) w->stop[s]++;
    }
    int at = 0;
    for (int s = 0; s < plan->n_species; s++) {
        int end = at + (w->stop[s] + VL - 1) / VL * VL;
        for (int m = at + w->stop[s]; m < end; m++) {
            w->edge[m] = -1;
            w->x[m] = w->y[m] = w->z[m] = 0;
            if (mode == JVP) w->ux[m] = w->uy[m] = w->uz[m] = 0;
        }
        w->start[s] = w->stop[s] = at;
        at = end;
    }
    w->length = at;
    for (int64_t e = first; e < last; e++) {
        const REAL *v = vectors + 3 * e;
        int64_t s = look_up(plan->species_of, numbers[neighbor[e]]);
        if (s < 0 || v[0] * v[0] + v[1] * v[1] + v[2] * v[2] >= square) continue;
        int m = w->stop[s]++;
        w->edge[m] = e;
        w->x[m] = v[0], w->y[m] = v[1], w->z[m] = v[2];
        if (mode == JVP) w->ux[m] = tangent[3 * e], w->uy[m] = tangent[3 * e + 1], w->uz[m] = tangent[3 * e + 2];
    }
    for (int m = 0; m < w->length; m += VL) {
        vec x = NAME(load)(w->x + m), y = NAME(load)(w->y + m), z = NAME(load)(w->z + m), f, df;
        ivec real;
        for (int l = 0; l < VL; l++) real[l] = w->edge[m + l] >= 0 ? -1 : 0;
        vec r2 = x * x + y * y + z * z;
        r2 = NAME(choose)(real, r2, NAME(splat)((REAL)0.25 * square)); /* any finite number for the padding */
        vec r = NAME(root)(r2), inverse = (REAL)1 / r;
        NAME(cutoff)(plan, shell->cutoff, r2, &f, &df);
        vec slope = (REAL)2 * df / NAME(choose)(f < (REAL)TINY, NAME(splat)((REAL)TINY), f);
        f = NAME(keep)(real, f);
        NAME(store)(w->inverse + m, inverse);
        NAME(store)(w->f + m, f);
        NAME(store)(w->slope + m, slope);
        for (int q = 0; q < shell->n_factor; q++) {
            vec t = r - (REAL)shell->shift[q];
            NAME(store)(w->factor + (size_t)q * w->room + m, f * NAME(exponential)((REAL)-shell->eta[q] * t * t, 0));
        }
        if (mode == JVP)
            NAME(store)(w->along + m, x * NAME(load)(w->ux + m) + y * NAME(load)(w->uy + m) + z * NAME(load)(w->uz + m));
        if (mode == VJP) {
            NAME(store)(w->sum_u + m, (vec){0});
            NAME(store)(w->sum_x + m, (vec){0});
            NAME(store)(w->sum_y + m, (vec){0});
            NAME(store)(w->sum_z + m, (vec){0});
        }
    }
}

/* A group of G2. */
INLINE void NAME(radial)(int mode, Work *w, const Radial *g, const REAL *cotangent, REAL *out, REAL *jacobian,
                         int64_t columns) {
    for (int n = 0; n < g->n; n++) {
        const REAL eta = (REAL)g->eta[n], shift = (REAL)g->shift[n];
        const REAL weight = mode == VJP ? cotangent[g->column[n]] : 0;
        vec total = {0};
        for (int m = w->start[g->species]; m < w->stop[g->species]; m += VL) {
            vec inverse = NAME(load)(w->inverse + m), t = (REAL)1 / inverse - shift;
            vec value = NAME(load)(w->f + m) * NAME(exponential)(-eta * t * t, 0);
            vec u = value * (NAME(load)(w->slope + m) - (REAL)2 * eta * t * inverse);
            if (mode == VALUES || mode == JACOBIAN) total += value;
            if (mode == VJP) NAME(store)(w->sum_u + m, NAME(load)(w->sum_u + m) + weight * u);
            if (mode == JVP) total += u * NAME(load)(w->along + m);
            for (int l = 0; l < VL && m + l < w->stop[g->species] && mode == JACOBIAN; l++) {
                REAL *to = jacobian + 3 * (columns * w->edge[m + l] + g->column[n]);
                to[0] = u[l] * w->x[m + l];
                to[1] = u[l] * w->y[m + l];
                to[2] = u[l] * w->z[m + l];
            }
        }
        if (mode != VJP) out[g->column[n]] += NAME(sum)(total);
    }
}

/* fc(r_jk) and its derivative by r_jk^2, and (r_jk - shift) / r_jk; 1, 0 and 0 for G5. */
INLINE void NAME(opposite)(int four, const Plan *plan, const Shell *shell, REAL shift, vec rjk2, vec *f, vec *df,
                           vec *m) {
    *f = NAME(splat)(1);
    *df = *m = (vec){0};
    if (!four) return;
    NAME(cutoff)(plan, shell->cutoff, rjk2, f, df);
    *m = shift != 0 ? (REAL)1 - shift / NAME(root)(rjk2) : NAME(splat)(1);
}

/* exp(-eta (r_jk - shift)^2); 1 for G5. */
INLINE vec NAME(gauss)(int four, REAL eta, REAL shift, int tame, vec rjk2) {
    if (!four) return NAME(splat)(1);
    if (shift != 0) {
        vec t = NAME(root)(rjk2) - shift;
        rjk2 = t * t;
    }
    return NAME(exponential)(-eta * rjk2, tame);
}

/* Fill up the last vector of the buffer with triplets that add nothing; its length in whole vectors. */
INLINE int NAME(pad)(Work *w, const Shell *shell, const Angular *g) {
    const REAL harmless = (REAL)(0.25 * shell->cutoff * shell->cutoff);
    const int stop = (w->n + VL - 1) / VL * VL;
    for (int t = w->n; t < stop; t++) {
        w->c[t] = w->alpha[t] = w->beta[t] = w->gamma[t] = w->delta[t] = 0;
        w->xk[t] = w->yk[t] = w->zk[t] = w->inverse_k[t] = 0;
        w->rjk2[t] = harmless;
        for (int e = 0; e < g->n_eta; e++) w->amplitude[(size_t)e * w->line + (size_t)t] = 0;
    }
    return stop;
}

/* Powers and cutoffs of the triplets of the buffer, into the buffer. */
INLINE void NAME(prepare)(int n_power, Work *w, int stop, const Plan *plan, const Shell *shell, const Angular *g) {
    vec power[8], slope[8], *p = n_power <= 8 ? power : w->local, *dp = n_power <= 8 ? slope : w->local + n_power, m;
    for (int t = 0; t < stop; t += VL) {
        vec f, df;
        NAME(opposite)(g->has_rjk, plan, shell, (REAL)g->shift, NAME(load)(w->rjk2 + t), &f, &df, &m);
        NAME(store)(w->cut + t, f);
        NAME(store)(w->d_cut + t, df);
        NAME(store)(w->m + t, m);
        NAME(powers)(g, n_power, NAME(load)(w->c + t), p, dp);
        for (int q = 0; q < n_power; q++) {
            NAME(store)(w->power + (size_t)q * w->line + t, p[q]);
            NAME(store)(w->d_power + (size_t)q * w->line + t, dp[q]);
        }
    }
}

/* VALUES of the buffer: value[e][p] += sum of the triplets. */
INLINE void NAME(sweep_values)(int n_power, Work *w, const Plan *plan, const Shell *shell, const Angular *g) {
    const int stop = NAME(pad)(w, shell, g);
    const REAL shift = (REAL)g->shift;
    NAME(prepare)(n_power, w, stop, plan, shell, g);
    for (int e = 0; e < g->n_eta; e++) {
        const REAL *amplitude = w->amplitude + (size_t)e * w->line;
        for (int q = 0; q < n_power; q += 8) { /* as many sums as there are registers to spare */
            const int many = n_power - q < 8 ? n_power - q : 8;
            vec total[8];
            for (int s = 0; s < many; s++) total[s] = w->value[e * n_power + q + s];
            for (int t = 0; t < stop; t += VL) {
                vec a = NAME(load)(amplitude + t);
                if (g->has_rjk)
                    a *= NAME(load)(w->cut + t) * NAME(gauss)(1, (REAL)g->eta[e], shift, g->tame, NAME(load)(w->rjk2 + t));
                for (int s = 0; s < many; s++) total[s] += a * NAME(load)(w->power + (size_t)(q + s) * w->line + t);
            }
            for (int s = 0; s < many; s++) w->value[e * n_power + q + s] = total[s];
        }
    }
}

/* VJP of the buffer, for each triplet with E = sum_ep weight_ep A_e P_p: s0 = E, s1 = sum_e eta_e E_e, sc = dE/dc and
   st = 2 dE/d(r_jk^2). */
INLINE void NAME(sweep_vjp)(int n_power, Work *w, const Plan *plan, const Shell *shell, const Angular *g) {
    const int stop = NAME(pad)(w, shell, g);
    const REAL shift = (REAL)g->shift;
    vec power[8], slope[8], *p = n_power <= 8 ? power : w->local, *dp = n_power <= 8 ? slope : w->local + n_power;
    for (int t = 0; t < stop; t += VL) {
        vec rjk2 = NAME(load)(w->rjk2 + t), f, df, m, level = {0}, level_eta = {0}, bend = {0};
        NAME(opposite)(g->has_rjk, plan, shell, shift, rjk2, &f, &df, &m);
        NAME(powers)(g, n_power, NAME(load)(w->c + t), p, dp);
        for (int e = 0; e < g->n_eta; e++) {
            const REAL *weight = w->weight + e * n_power, eta = (REAL)g->eta[e];
            vec a = NAME(load)(w->amplitude + (size_t)e * w->line + t);
            a *= NAME(gauss)(g->has_rjk, eta, shift, g->tame, rjk2);
            vec of_p = {0}, of_dp = {0};
            for (int q = 0; q < n_power; q++) {
                of_p += weight[q] * p[q];
                of_dp += weight[q] * dp[q];
            }
            of_p *= a;
            level += of_p;
            level_eta += eta * of_p;
            bend += a * of_dp;
        }
        NAME(store)(w->s0 + t, f * level);
        NAME(store)(w->s1 + t, f * level_eta);
        NAME(store)(w->sc + t, f * bend);
        NAME(store)(w->st + t, (REAL)2 * (df * level - m * f * level_eta));
    }
}

/* JVP of the buffer: value[e][p] += sum of the changes of the triplets. */
INLINE void NAME(sweep_jvp)(int n_power, Work *w, const Plan *plan, const Shell *shell, const Angular *g) {
    const int stop = NAME(pad)(w, shell, g);
    const REAL shift = (REAL)g->shift;
    NAME(prepare)(n_power, w, stop, plan, shell, g);
    for (int t = 0; t < stop; t += VL) {
        vec rjk2 = NAME(load)(w->rjk2 + t), f = NAME(load)(w->cut + t), df = NAME(load)(w->d_cut + t);
        vec m = NAME(load)(w->m + t);
        vec alpha = NAME(load)(w->alpha + t), beta = NAME(load)(w->beta + t), gamma = NAME(load)(w->gamma + t);
        vec delta = NAME(load)(w->delta + t);
        for (int e = 0; e < g->n_eta; e++) {
            const REAL eta = (REAL)g->eta[e];
            vec bare = NAME(load)(w->amplitude + (size_t)e * w->line + t);
            bare *= NAME(gauss)(g->has_rjk, eta, shift, g->tame, rjk2);
            vec change = bare * (f * (alpha - eta * (beta + (REAL)2 * gamma * m)) + (REAL)2 * df * gamma);
            vec turn = bare * f * delta;
            for (int q = 0; q < n_power; q++)
                w->value[e * n_power + q] += change * NAME(load)(w->power + (size_t)q * w->line + t)
                                             + turn * NAME(load)(w->d_power + (size_t)q * w->line + t);
        }
    }
}

/* JACOBIAN of the buffer, which holds the triplets of one j: adds to the row of j; value[e][p] gets the values. */
INLINE void NAME(sweep_jacobian)(Work *w, const Plan *plan, const Shell *shell, const Angular *g, int j, REAL *row) {
    const int stop = NAME(pad)(w, shell, g), n_power = g->n_power;
    const REAL shift = (REAL)g->shift, inverse_j = w->inverse[j], slope_j = w->slope[j];
    const REAL m_j = 2 * (1 - shift * inverse_j), at[3] = {w->x[j], w->y[j], w->z[j]};
    NAME(prepare)(n_power, w, stop, plan, shell, g);
    for (int e = 0; e < g->n_eta; e++) {
        const REAL eta = (REAL)g->eta[e];
        for (int t = 0; t < stop; t += VL) { /* U_j = s0 P + s1 dP, D = sc dP - st P, value = alpha P */
            vec rjk2 = NAME(load)(w->rjk2 + t), f = NAME(load)(w->cut + t), df = NAME(load)(w->d_cut + t);
            vec m = NAME(load)(w->m + t);
            vec bare = NAME(load)(w->amplitude + (size_t)e * w->line + t);
            bare *= NAME(gauss)(g->has_rjk, eta, shift, g->tame, rjk2);
            vec a = bare * f, st = (REAL)2 * (df * bare - eta * m * a);
            NAME(store)(w->s0 + t, a * (slope_j - eta * m_j) + st);
            NAME(store)(w->s1 + t, -a * NAME(load)(w->c + t) * (inverse_j * inverse_j));
            NAME(store)(w->sc + t, a * NAME(load)(w->inverse_k + t) * inverse_j);
            NAME(store)(w->st + t, st);
            NAME(store)(w->alpha + t, a);
        }
        for (int q = 0; q < n_power; q += 2) {
            vec sum[2][5] = {0};
            for (int t = 0; t < stop; t += VL) {
                vec s0 = NAME(load)(w->s0 + t), s1 = NAME(load)(w->s1 + t);
                vec sc = NAME(load)(w->sc + t), st = NAME(load)(w->st + t);
                for (int h = 0; h < 2; h++) {
                    vec p = NAME(load)(w->power + (size_t)(q + h) * w->line + t);
                    vec dp = NAME(load)(w->d_power + (size_t)(q + h) * w->line + t);
                    vec d = sc * dp - st * p;
                    sum[h][0] += d * NAME(load)(w->xk + t);
                    sum[h][1] += d * NAME(load)(w->yk + t);
                    sum[h][2] += d * NAME(load)(w->zk + t);
                    sum[h][3] += s0 * p + s1 * dp;
                    sum[h][4] += NAME(load)(w->alpha + t) * p;
                }
            }
            for (int h = 0; h < 2; h++) {
                const int64_t column = g->column[e * n_power + q + h];
                if (column < 0) continue;
                const REAL u = NAME(sum)(sum[h][3]);
                for (int x = 0; x < 3; x++) row[3 * column + x] += u * at[x] + NAME(sum)(sum[h][x]);
                w->value[e * n_power + q + h] += sum[h][4];
            }
        }
    }
}

#define SWEEP(what, n_power)                                                                                            \
    static __attribute__((noinline)) void NAME(what##_##n_power)(Work * w, const Plan *p, const Shell *s,               \
                                                                 const Angular *g) {                                    \
        NAME(what)(n_power, w, p, s, g);                                                                                \
    }
#define SWEEPS(what)                                                                                                    \
    SWEEP(what, 2)                                                                                                      \
    SWEEP(what, 4)                                                                                                      \
    SWEEP(what, 6)                                                                                                      \
    SWEEP(what, 8)                                                                                                      \
    static __attribute__((noinline)) void NAME(what##_any)(Work * w, const Plan *p, const Shell *s, const Angular *g) { \
        if (g->n_power == 2) NAME(what##_2)(w, p, s, g);                                                                \
        else if (g->n_power == 4) NAME(what##_4)(w, p, s, g);                                                           \
        else if (g->n_power == 6) NAME(what##_6)(w, p, s, g);                                                           \
        else if (g->n_power == 8) NAME(what##_8)(w, p, s, g);                                                           \
        else NAME(what)(g->n_power, w, p, s, g);                                                                        \
    }
SWEEPS(sweep_values)
SWEEPS(sweep_vjp)

/* Give what `sweep_vjp` found to the neighbours j and k, and empty the buffer. */
INLINE void NAME(give)(Work *w, REAL shift) {
    vec sum_u = {0}, sum_x = {0}, sum_y = {0}, sum_z = {0};
    for (int s = 0; s < w->n_span; s++) {
        const int j = w->span_j[s], k = w->span_k[s], first = w->span_first[s];
        const uint32_t bits = w->span_bits[s];
        const REAL xj = w->x[j], yj = w->y[j], zj = w->z[j], inverse_j = w->inverse[j];
        vec s0 = NAME(spread)(bits, w->s0 + first), s1 = NAME(spread)(bits, w->s1 + first);
        vec sc = NAME(spread)(bits, w->sc + first), st = NAME(spread)(bits, w->st + first);
        vec xk = NAME(load)(w->x + k), yk = NAME(load)(w->y + k), zk = NAME(load)(w->z + k);
        vec inverse_k = NAME(load)(w->inverse + k), both = inverse_k * inverse_j;
        vec scc = sc * (xk * xj + yk * yj + zk * zj) * both, d = sc * both - st;
        vec u = s0 * NAME(load)(w->slope + k) - (REAL)2 * s1 * ((REAL)1 - shift * inverse_k) - scc * inverse_k * inverse_k;
        NAME(store)(w->sum_u + k, NAME(load)(w->sum_u + k) + u + st);
        NAME(store)(w->sum_x + k, NAME(load)(w->sum_x + k) + d * xj);
        NAME(store)(w->sum_y + k, NAME(load)(w->sum_y + k) + d * yj);
        NAME(store)(w->sum_z + k, NAME(load)(w->sum_z + k) + d * zj);
        sum_u += s0 * w->slope[j] - s1 * (2 * (1 - shift * inverse_j)) - scc * (inverse_j * inverse_j) + st;
        sum_x += d * xk;
        sum_y += d * yk;
        sum_z += d * zk;
        if (s + 1 == w->n_span || w->span_j[s + 1] != j) {
            w->sum_u[j] += NAME(sum)(sum_u);
            w->sum_x[j] += NAME(sum)(sum_x);
            w->sum_y[j] += NAME(sum)(sum_y);
            w->sum_z[j] += NAME(sum)(sum_z);
            sum_u = sum_x = sum_y = sum_z = (vec){0};
        }
    }
}

INLINE void NAME(flush)(int mode, Work *w, const Plan *plan, const Shell *shell, const Angular *g) {
    if (mode == VALUES) NAME(sweep_values_any)(w, plan, shell, g);
    if (mode == JVP) NAME(sweep_jvp)(g->n_power, w, plan, shell, g);
    if (mode == VJP) {
        NAME(sweep_vjp_any)(w, plan, shell, g);
        NAME(give)(w, (REAL)g->shift);
    }
    w->n = w->n_span = 0;
}

/* Append the triplets of neighbour j with the neighbours first <= k < stop, k != j, to the buffer. */
INLINE void NAME(gather)(int mode, Work *w, const Shell *shell, const Angular *g, int j, int first, int stop) {
    const vec square = NAME(splat)((REAL)(shell->cutoff * shell->cutoff));
    const REAL xj = w->x[j], yj = w->y[j], zj = w->z[j], inverse_j = w->inverse[j], shift = (REAL)g->shift;
    const uint32_t all = VL == 32 ? ~0u : (1u << VL) - 1;
    for (int k = first / VL * VL; k < stop; k += VL) {
        vec xk = NAME(load)(w->x + k), yk = NAME(load)(w->y + k), zk = NAME(load)(w->z + k);
        vec dx = xk - xj, dy = yk - yj, dz = zk - zj, rjk2 = dx * dx + dy * dy + dz * dz;
        uint32_t bits = g->has_rjk ? NAME(unless_ge)(rjk2, square) : all;
        if (k < first) bits &= all << (first - k);
        if (k + VL > stop) bits &= all >> (k + VL - stop);
        if (j >= k && j < k + VL) bits &= ~(1u << (j - k));
        if (!bits) continue;
        const int n = w->n;
        vec inverse_k = NAME(load)(w->inverse + k), both = inverse_k * inverse_j;
        vec c = (xk * xj + yk * yj + zk * zj) * both;
        NAME(squeeze)(w->c + n, bits, c);
        NAME(squeeze)(w->rjk2 + n, bits, rjk2);
        for (int e = 0; e < g->n_eta; e++) {
            const REAL *factor = w->factor + (size_t)g->factor[e] * w->room;
            NAME(squeeze)(w->amplitude + (size_t)e * w->line + n, bits, factor[j] * NAME(load)(factor + k));
        }
        if (mode == JVP) { /* dE = s0 (alpha - eta (beta + 2 gamma)) + 2 gamma dE/d(r_jk^2) of the cutoff + sc delta */
            vec along_k = NAME(load)(w->along + k), ux = NAME(load)(w->ux + k), uy = NAME(load)(w->uy + k);
            vec uz = NAME(load)(w->uz + k);
            const REAL along_j = w->along[j];
            vec dot = xk * w->ux[j] + yk * w->uy[j] + zk * w->uz[j] + xj * ux + yj * uy + zj * uz; /* d(r_j . r_k) */
            NAME(squeeze)(w->alpha + n, bits, w->slope[j] * along_j + NAME(load)(w->slope + k) * along_k);
            NAME(squeeze)(w->beta + n, bits,
                          2 * (1 - shift * inverse_j) * along_j + (REAL)2 * ((REAL)1 - shift * inverse_k) * along_k);
            NAME(squeeze)(w->gamma + n, bits, along_j + along_k - dot);
            NAME(squeeze)(w->delta + n, bits,
                          both * dot - c * (inverse_j * inverse_j * along_j + inverse_k * inverse_k * along_k));
        }
        if (mode == JACOBIAN) {
            NAME(squeeze)(w->xk + n, bits, xk);
            NAME(squeeze)(w->yk + n, bits, yk);
            NAME(squeeze)(w->zk + n, bits, zk);
            NAME(squeeze)(w->inverse_k + n, bits, inverse_k);
        }
        w->span_j[w->n_span] = j;
        w->span_k[w->n_span] = k;
        w->span_first[w->n_span] = n;
        w->span_bits[w->n_span++] = bits;
        w->n += __builtin_popcount(bits);
    }
}

/* A group of G4 or G5 of one pair of species, cutoff and shift. */
INLINE void NAME(angular)(int mode, Work *w, const Plan *plan, const Shell *shell, const Angular *g,
                          const REAL *cotangent, REAL *out, REAL *jacobian, int64_t columns) {
    const int n = g->n_eta * g->n_power, same = g->a == g->b;
    w->n = w->n_span = 0;
    for (int q = 0; q < n; q++) {
        w->value[q] = (vec){0};
        if (mode == VJP) w->weight[q] = g->column[q] >= 0 ? cotangent[g->column[q]] : 0;
    }
    if (mode == JACOBIAN) { /* each j with all k, so that only rows of j are written; values are counted twice */
        for (int side = 0; side < (same ? 1 : 2); side++) {
            const int a = side ? g->b : g->a, b = side ? g->a : g->b;
            for (int j = w->start[a]; j < w->stop[a]; j++) {
                NAME(gather)(mode, w, shell, g, j, w->start[b], w->stop[b]);
                NAME(sweep_jacobian)(w, plan, shell, g, j, jacobian + 3 * columns * w->edge[j]);
                w->n = w->n_span = 0;
            }
        }
    } else {
        for (int j = w->start[g->a]; j < w->stop[g->a]; j++) {
            NAME(gather)(mode, w, shell, g, j, same ? j + 1 : w->start[g->b], w->stop[g->b]);
            if (w->n >= FULL || w->n_span >= FULL) NAME(flush)(mode, w, plan, shell, g);
        }
        NAME(flush)(mode, w, plan, shell, g);
    }
    for (int q = 0; q < n && mode != VJP; q++)
        if (g->column[q] >= 0) out[g->column[q]] += (mode == JACOBIAN ? (REAL)0.5 : 1) * NAME(sum)(w->value[q]);
}

/* One centre. `values` is its row of G (VALUES, JACOBIAN) or of dG (JVP); `cotangent` its row of dE/dG. */
INLINE void NAME(centre)(int mode, Work *w, const Plan *plan, const Centre *centre, int64_t first, int64_t last,
                         const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *in,
                         REAL *values, REAL *to_edges, int64_t columns) {
    for (int s = 0; s < centre->n_shell; s++) {
        const Shell *shell = &centre->shell[s];
        NAME(fill)(mode, w, plan, shell, first, last, neighbor, numbers, vectors, in);
        for (int g = 0; g < shell->n_radial; g++)
            NAME(radial)(mode, w, &shell->radial[g], in, values, to_edges, columns);
        for (int g = 0; g < shell->n_angular; g++)
            NAME(angular)(mode, w, plan, shell, &shell->angular[g], in, values, to_edges, columns);
        for (int m = 0; m < w->length && mode == VJP; m++) {
            if (w->edge[m] < 0) continue;
            REAL *to = to_edges + 3 * w->edge[m];
            to[0] += w->sum_u[m] * w->x[m] + w->sum_x[m];
            to[1] += w->sum_u[m] * w->y[m] + w->sum_y[m];
            to[2] += w->sum_u[m] * w->z[m] + w->sum_z[m];
        }
    }
}

typedef void (*NAME(Routine))(Work *, const Plan *, const Centre *, int64_t, int64_t, const int64_t *, const int64_t *,
                              const REAL *, const REAL *, REAL *, REAL *, int64_t);
#define ROUTINE(name, mode)                                                                                             \
    static void NAME(name)(Work * w, const Plan *plan, const Centre *centre, int64_t first, int64_t last,               \
                           const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *in,        \
                           REAL *values, REAL *to_edges, int64_t columns) {                                             \
        NAME(centre)(mode, w, plan, centre, first, last, neighbor, numbers, vectors, in, values, to_edges, columns);    \
    }
ROUTINE(centre_values, VALUES)
ROUTINE(centre_vjp, VJP)
ROUTINE(centre_jvp, JVP)
ROUTINE(centre_jacobian, JACOBIAN)

/* VJPS of one centre: its Jacobian, which stays in the cache, times its cotangents [columns][members]. */
static void NAME(centre_vjps)(Work *w, const Plan *plan, const Centre *centre, int64_t first, int64_t last,
                              const int64_t *neighbor, const int64_t *numbers, const REAL *vectors, const REAL *in,
                              REAL *values, REAL *to_edges, int64_t columns) {
    const int64_t members = w->members;
    REAL *rows = w->rows + columns;
    (void)values;
    memset(w->rows, 0, sizeof(REAL) * (size_t)(columns * (3 * (last - first) + 1)));
    NAME(centre_jacobian)(w, plan, centre, 0, last - first, neighbor + first, numbers, vectors + 3 * first, NULL, w->rows,
                          rows, columns);
    for (int64_t m = 0; m < members; m += VL)
        for (int64_t e = first; e < last; e++) {
            const REAL *row = rows + 3 * columns * (e - first), *cotangent = in + m;
            vec even[3] = {0}, odd[3] = {0};
            int64_t k = 0;
            for (; k + 1 < columns; k += 2, row += 6, cotangent += 2 * members) {
                vec c = NAME(load)(cotangent), d = NAME(load)(cotangent + members);
                for (int x = 0; x < 3; x++) even[x] += row[x] * c, odd[x] += row[3 + x] * d;
            }
            if (k < columns)
                for (int x = 0; x < 3; x++) even[x] += row[x] * NAME(load)(cotangent);
            for (int x = 0; x < 3; x++) NAME(store)(to_edges + (3 * e + x) * members + m, even[x] + odd[x]);
        }
}

#define GRAPH                                                                                                           \
    const int64_t *ints, int64_t n_ints, const double *reals, int64_t n_atoms, int64_t n_edges, const int64_t *i,       \
        const int64_t *j, const int64_t *numbers, int64_t columns, int n_threads, const REAL *vectors

/* All centres. Outputs are zeroed by the caller. Returns 0, or 1 when out of memory. */
static int NAME(all)(int mode, NAME(Routine) routine, GRAPH, int64_t members, const REAL *in, REAL *values,
                     REAL *to_edges) {
    Plan plan;
    int64_t *first = malloc(sizeof(int64_t) * (size_t)(n_atoms + 1)), longest = 0;
    if (!first || !read_plan(&plan, ints, n_ints, reals)) {
        free(first);
        return 1;
    }
    int failed = 0;
    int64_t next = 0;
    const int64_t given = mode == VJP ? columns : columns * members; /* inputs of each centre */
    for (int64_t a = 0, e = 0; a <= n_atoms; a++) {
        while (e < n_edges && i[e] < a) e++;
        first[a] = e;
        if (a && e - first[a - 1] > longest) longest = e - first[a - 1];
    }
#ifdef _OPENMP
#pragma omp parallel num_threads(n_threads) if (n_threads > 1)
#endif
    {
        Work work;
        if (!NAME(new_work)(&work, &plan, longest, columns, members)) {
#ifdef _OPENMP
#pragma omp atomic write
#endif
            failed = 1;
        } else {
            for (;;) { /* a few centres at a time, whoever is free */
                int64_t begin;
#ifdef _OPENMP
#pragma omp atomic capture
#endif
                { begin = next; next += 4; }
                for (int64_t a = begin; a < begin + 4 && a < n_atoms; a++) {
                    const int64_t c = look_up(plan.centre_of, numbers[a]);
                    if (c < 0) continue;
                    routine(&work, &plan, &plan.centre[c], first[a], first[a + 1], j, numbers, vectors,
                            in ? in + a * given : NULL, values ? values + a * columns : NULL, to_edges, columns);
                }
                if (begin + 4 >= n_atoms) break;
            }
            free(work.memory);
        }
    }
    free_plan(&plan);
    free(first);
    return failed;
}

#define PASS(mode, routine, members, in, values, to_edges)                                                              \
    NAME(all)(mode, NAME(routine), ints, n_ints, reals, n_atoms, n_edges, i, j, numbers, columns, n_threads, vectors,   \
              members, in, values, to_edges)

/* G [N, K] */
int NAME(symmetry_values)(GRAPH, REAL *values) { return PASS(VALUES, centre_values, 0, NULL, values, NULL); }

/* dE/dr_ij [E, 3] from dE/dG [N, K] */
int NAME(symmetry_vjp)(GRAPH, const REAL *cotangent, REAL *gradient) {
    return PASS(VJP, centre_vjp, 0, cotangent, NULL, gradient);
}

/* dG [N, K] along a tangent of r_ij [E, 3] */
int NAME(symmetry_jvp)(GRAPH, const REAL *tangent, REAL *change) {
    return PASS(JVP, centre_jvp, 0, tangent, change, NULL);
}

/* G [N, K] and dG/dr_ij [E, K, 3] */
int NAME(symmetry_jacobian)(GRAPH, REAL *values, REAL *jacobian) {
    return PASS(JACOBIAN, centre_jacobian, 0, NULL, values, jacobian);
}

/* dE_m/dr_ij [E, 3, members] from dE_m/dG [N, K, members] of several energies; members: a multiple of 16. */
int NAME(symmetry_vjps)(GRAPH, const REAL *cotangent, REAL *gradient, int64_t members) {
    return PASS(VJPS, centre_vjps, members, cotangent, NULL, gradient);
}

#undef ROUTINE
#undef SWEEP
#undef SWEEPS
#undef FULL
#undef VL
#undef vec
#undef ivec
#undef Work
#undef GRAPH
#undef PASS
#endif
