/** The shapes and directions that every library is measured with. */
export declare const cases: readonly unknown[]
export declare const directions: readonly string[]
export declare function flops(item: unknown): number
export declare function numbers(length: number, seed: number): Float32Array
