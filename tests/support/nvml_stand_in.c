/* What libnvidia-ml.so.1 answers on a machine of three cards: an H200, a T4 without power readings, and a partitioned
 * H200. Built by `support.nvml_library`. NVML_STAND_IN names what is broken: "init", "name0" (card 0 fails). */
#include <stdlib.h>
#include <string.h>

typedef int ret_t;
enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15 };
enum { H200, T4, SPLIT, CARDS, SLICE = CARDS };

static int cards[CARDS + 2] = {H200, T4, SPLIT, SLICE, SLICE + 1};

static int broken(const char *what) {
    const char *set = getenv("NVML_STAND_IN");
    return set != NULL && strstr(set, what) != NULL;
}

static ret_t put(char *target, unsigned size, const char *text) {
    strncpy(target, text, size);
    return OK;
}

ret_t nvmlInitWithFlags(unsigned flags) { return broken("init") ? DRIVER_NOT_LOADED : OK; }
ret_t nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(ret_t code) { return "stand-in"; }
ret_t nvmlSystemGetDriverVersion(char *text, unsigned size) { return put(text, size, "580.95.05"); }
ret_t nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 13000; return OK; }
ret_t nvmlDeviceGetCount_v2(unsigned *count) { *count = CARDS; return OK; }

ret_t nvmlDeviceGetHandleByIndex_v2(unsigned index, void **card) {
    if (index >= CARDS) return NOT_FOUND;
    *card = &cards[index];
    return OK;
}

ret_t nvmlDeviceGetUUID(void *card, char *text, unsigned size) {
    static const char *uuids[] = {"GPU-h200", "GPU-t4", "GPU-split", "MIG-slice-0", "MIG-slice-1"};
    return put(text, size, uuids[*(int *)card]);
}

ret_t nvmlDeviceGetName(void *card, char *text, unsigned size) {
    static const char *names[] = {"NVIDIA H200", "Tesla T4", "NVIDIA H200", "NVIDIA H200 MIG 1g.18gb",
                                  "NVIDIA H200 MIG 2g.35gb"};
    if (*(int *)card == H200 && broken("name0")) return GPU_IS_LOST;
    return put(text, size, names[*(int *)card]);
}

ret_t nvmlDeviceGetMemoryInfo(void *card, unsigned long long *memory /* total, free, used */) {
    static const unsigned long long mib[] = {143771, 15360, 143771, 16384, 33280};
    memory[0] = mib[*(int *)card] << 20;
    memory[2] = 5ULL << 30;
    memory[1] = memory[0] - memory[2];
    return OK;
}

ret_t nvmlDeviceGetCudaComputeCapability(void *card, int *major, int *minor) {
    *major = *(int *)card == T4 ? 7 : 9;
    *minor = *(int *)card == T4 ? 5 : 0;
    return OK;
}

ret_t nvmlDeviceGetNumGpuCores(void *card, unsigned *cores) {
    *cores = *(int *)card == T4 ? 2560 : 16896;
    return OK;
}

ret_t nvmlDeviceGetEccMode(void *card, unsigned *now, unsigned *pending) {
    *now = *pending = *(int *)card != T4;
    return OK;
}

ret_t nvmlDeviceGetMigMode(void *card, unsigned *now, unsigned *pending) {
    if (*(int *)card == T4) return NOT_SUPPORTED;
    *now = *pending = *(int *)card == SPLIT;
    return OK;
}

ret_t nvmlDeviceGetMaxMigDeviceCount(void *card, unsigned *count) { *count = 7; return OK; }

ret_t nvmlDeviceGetMigDeviceHandleByIndex(void *card, unsigned index, void **slice) {
    if (index >= 2) return NOT_FOUND;
    *slice = &cards[SLICE + index];
    return OK;
}

ret_t nvmlDeviceGetUtilizationRates(void *card, unsigned *rates /* gpu, memory */) {
    if (*(int *)card == SPLIT) return NOT_SUPPORTED;
    rates[0] = 87;
    rates[1] = 12;
    return OK;
}

ret_t nvmlDeviceGetTemperature(void *card, int sensor, unsigned *celsius) { *celsius = 61; return OK; }

ret_t nvmlDeviceGetPowerUsage(void *card, unsigned *milliwatts) {
    if (*(int *)card == T4) return NOT_SUPPORTED;
    *milliwatts = 412500;
    return OK;
}

ret_t nvmlDeviceGetTotalEccErrors(void *card, int kind, int counter, unsigned long long *count) {
    if (*(int *)card == T4) return NOT_SUPPORTED;
    *count = kind == 1 && counter == 0 ? 2 : 99; /* uncorrected, since the driver was loaded */
    return OK;
}
