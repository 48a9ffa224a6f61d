/* Two GPUs as libnvidia-ml.so.1 shows them. They remember limits and clocks in the file NVML_DOUBLE, which outlives
 * processes; who deletes it restarts the machine. NVML_DOUBLE_REFUSES is a status that every setter answers with. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPUS 2
enum { OK = 0, INVALID = 2, NO_PERMISSION = 4, LEAST = 200000, MOST = 700000, WORK = 690000 };
struct gpu { unsigned limit, clock, sets; };
static struct gpu gpus[GPUS];

static void load(void) {
    FILE *file = fopen(getenv("NVML_DOUBLE"), "r");
    for (int i = 0; i < GPUS; i++) gpus[i] = (struct gpu){MOST, 0, 0};
    for (int i = 0; file && i < GPUS; i++)
        if (fscanf(file, "%u %u %u", &gpus[i].limit, &gpus[i].clock, &gpus[i].sets) != 3) break;
    if (file) fclose(file);
}

static int set(void *gpu, unsigned limit, int locks, unsigned clock) {
    const char *refuses = getenv("NVML_DOUBLE_REFUSES");
    if (refuses) return atoi(refuses);
    if (limit && (limit < LEAST || limit > MOST)) return INVALID;
    load();
    struct gpu *one = &gpus[(size_t)gpu - 1];
    if (limit) one->limit = limit, one->sets++;
    if (locks) one->clock = clock;
    FILE *file = fopen(getenv("NVML_DOUBLE"), "w");
    for (int i = 0; i < GPUS; i++) fprintf(file, "%u %u %u\n", gpus[i].limit, gpus[i].clock, gpus[i].sets);
    return fclose(file);
}

static unsigned limit(void *gpu) { load(); return gpus[(size_t)gpu - 1].limit; }

int nvmlInit_v2(void) { return OK; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int status) { return status == NO_PERMISSION ? "Insufficient Permissions" : "Invalid Argument"; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = GPUS; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void **gpu) { *gpu = (void *)((size_t)i + 1); return OK; }
int nvmlDeviceGetUUID(void *gpu, char *name, unsigned length) { snprintf(name, length, "GPU-%zu", (size_t)gpu); return OK; }
int nvmlDeviceGetPowerManagementLimitConstraints(void *gpu, unsigned *low, unsigned *high) { (void)gpu; *low = LEAST, *high = MOST; return OK; }
int nvmlDeviceGetPowerManagementDefaultLimit(void *gpu, unsigned *watts) { (void)gpu; *watts = MOST; return OK; }
int nvmlDeviceGetPowerManagementLimit(void *gpu, unsigned *watts) { *watts = limit(gpu); return OK; }
int nvmlDeviceGetPowerUsage(void *gpu, unsigned *watts) { *watts = limit(gpu) < WORK ? limit(gpu) : WORK; return OK; }
int nvmlDeviceSetPowerManagementLimit(void *gpu, unsigned watts) { return set(gpu, watts ? watts : 1, 0, 0); }
int nvmlDeviceSetGpuLockedClocks(void *gpu, unsigned low, unsigned high) { (void)low; return set(gpu, 0, 1, high); }
int nvmlDeviceResetGpuLockedClocks(void *gpu) { return set(gpu, 0, 1, 0); }
